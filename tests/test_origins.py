"""Results are believed beside the weights and the images that they were made from."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from test_report import made_up_finetuning, made_up_line, made_up_passport, training

from common import check, files, origins, parts
from common.networks import models
from eval.report import results

pytestmark = pytest.mark.slow


@pytest.fixture
def study(tmp_path, pack_file, minimum):
    """A study of two minima, with a result of each kind."""
    folder = tmp_path / "study"
    shutil.copytree(minimum, folder / "adam-0")
    (folder / "data").mkdir()
    shutil.copy(pack_file, folder / "data/pretrain.h5")
    model, metadata = models.load(minimum / "weights.safetensors")
    model.fc.bias.data += 1
    save(folder / "adam-1", model, metadata | {"minimum": "adam-1", "seed": 1})
    for minimum in "adam-0", "adam-1":
        for kind in "training", "passport", "finetune":
            result(folder, minimum, kind)
    result(folder, "adam-0--adam-1", "comparison")
    return folder


def save(folder, model, metadata):
    keep = {name: value for name, value in metadata.items() if name != "sha256"}
    models.save(folder / "weights.safetensors", model.state_dict(), **keep)


def result(folder, minimum, kind):
    """A result as the scripts write it, with made-up numbers."""
    minima, rng = minimum.split("--"), np.random.default_rng(0)
    said = [origins.metadata(folder / each / "weights.safetensors") for each in minima]
    attrs = {"weights": said[0]["sha256"], "data": said[0]["data"]}
    whose = {"minimum": minimum, "method": "adam", "setting": "adam", "seed": int(minimum[-1])}
    if kind == "training":
        training(folder / minimum / "training.h5", val=0.9, **whose, **attrs)
    elif kind == "passport":
        made_up_passport(folder / minimum / "passport.h5", rng, **whose, **attrs)
    elif kind == "finetune":
        attrs |= {"data": "of digits", "task": "digits", "mode": "full", "mode_setting": "full"}
        made_up_finetuning(folder / minimum / "digits/full.h5", rng, **whose, **attrs)
    else:
        attrs["weights"] = json.dumps([each["sha256"] for each in said])
        path = folder / minimum / "line.h5"
        made_up_line(path, minima, ["adam", "adam"], shared_start=False, **attrs)


def checked(folder):
    """(lines that name a file, relative to the folder, by that file; the last line; the status)."""
    command = [sys.executable, "-m", "common.check", folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert not done.stderr
    *lines, total = done.stdout.splitlines()
    named = {line.partition(": ")[0].removeprefix(f"{folder}/") for line in lines}
    return named, total, done.returncode


def reported(folder):
    """What the report finds wrong with the study's results."""
    paths = [path for path in parts.files_in(folder) if path.suffix == ".h5"]
    packs = {"pretrain": origins_of(folder / "data/pretrain.h5")}
    paths = [path for path in paths if path.parent.name != "data"]
    try:
        results.read(paths, [], partial=False, packs=packs)
    except SystemExit as problems:
        *lines, hint = str(problems).splitlines()
        named = lines if hint.startswith("--partial") else [*lines, hint]
        return {line.partition(": ")[0].removeprefix(f"{folder}/") for line in named}
    return set()


def origins_of(pack):
    with files.read(pack) as file:
        return file.attrs["fingerprint"]


OF_ADAM_0 = {"adam-0/training.h5", "adam-0/passport.h5", "adam-0/digits/full.h5"}
PAIR = {"adam-0--adam-1/line.h5"}


def test_a_sound_study_is_sound_also_through_links(study, tmp_path):
    assert checked(study) == (
        set(),
        "10 of 10 files are whole, 0 damaged or foreign; 0 made from other weights or images than "
        "lie there",
        0,
    )
    elsewhere = tmp_path / "a large disk"
    (study / "adam-1").rename(elsewhere)
    (study / "adam-1").symlink_to(elsewhere)
    (study / "adam-1/again").symlink_to(study)  # and round in a circle
    (tmp_path / "link").symlink_to(study)
    named, total, status = checked(tmp_path / "link")
    assert (named, status) == (set(), 0) and total.startswith("10 of 10 files are whole, ")
    assert reported(study) == set()


def test_swapped_weights_are_named(study, tmp_path):
    first, second = (study / f"adam-{seed}/weights.safetensors" for seed in (0, 1))
    first.rename(tmp_path / "aside")
    second.rename(first)
    (tmp_path / "aside").rename(second)
    named, total, status = checked(study)
    of_adam_1 = {name.replace("adam-0", "adam-1") for name in OF_ADAM_0}
    weights = {f"adam-{seed}/weights.safetensors" for seed in (0, 1)}
    assert named == OF_ADAM_0 | of_adam_1 | PAIR | weights and status == 1
    assert total.startswith("10 of 10 files are whole, 0 damaged or foreign; 10 made from other")
    assert reported(study) == OF_ADAM_0 | of_adam_1 | PAIR


def test_replaced_weights_are_named(study):
    model, metadata = models.load(study / "adam-0/weights.safetensors")
    model.fc.bias.data -= 1
    save(study / "adam-0", model, metadata)
    assert checked(study)[0] == OF_ADAM_0 | PAIR == reported(study)


def test_a_renamed_minimum_is_named(study):
    (study / "adam-1").rename(study / "adam-7")
    assert checked(study)[0] == {"adam-7/weights.safetensors"}


def test_a_result_in_another_minimum_s_folder_is_named(study):
    shutil.copy(study / "adam-1/digits/full.h5", study / "adam-0/digits/full.h5")
    assert checked(study)[0] == {"adam-0/digits/full.h5"} == reported(study)


def test_a_replaced_pack_is_named(study, pack_file):
    with files.read(pack_file) as old, files.write(study / "data/pretrain.h5") as new:
        for name in old:
            old.copy(name, new)
        new.attrs.update({**old.attrs, "fingerprint": "of other images"})
    named = checked(study)[0]
    assert named == {
        *("adam-0/training.h5", "adam-0/passport.h5", "adam-0/weights.safetensors"),
        *("adam-1/training.h5", "adam-1/passport.h5", "adam-1/weights.safetensors"),
        *PAIR,
    }
    assert reported(study) == named - {f"adam-{k}/weights.safetensors" for k in (0, 1)}


def test_a_report_on_a_part_leaves_out_what_is_of_other_weights(study, capsys):
    shutil.copy(study / "adam-1/digits/full.h5", study / "adam-0/digits/full.h5")
    paths = [path for path in parts.files_in(study) if path.suffix == ".h5"]
    kept, _, problems = results.read(paths, [], partial=True)
    assert study / "adam-0/digits/full.h5" not in [each.path for each in kept]
    assert any("adam-0/digits/full.h5: " in line for line in problems)
    assert "says that it is the weights of adam-0, not of adam-1" in capsys.readouterr().err


def test_where_there_are_no_weights_nothing_can_be_compared(study, tmp_path):
    """As where only the results were copied, or were written to a place of one's own."""
    for path in study.rglob("weights.safetensors"):
        path.unlink()
    assert reported(study) == set()
    own = tmp_path / "mine.h5"
    shutil.copy(study / "adam-0--adam-1/line.h5", own)
    with files.read(own) as file:
        assert not list(origins.unlike(own, file.attrs, {}))


def test_leftovers_are_swept_where_a_folder_is_a_link(tmp_path):
    study = tmp_path / "study"
    disk = tmp_path / "disk"
    disk.mkdir()
    (study / "flags").mkdir(parents=True)
    (study / "flags/lock").touch()
    (study / "adam-0").symlink_to(disk)
    (disk / "weights.safetensors").touch()
    (disk / ".passport.h5.part").touch()
    command = ["make", "PROFILE=smoke", f"PYTHON={sys.executable}", f"A={study}"]
    subprocess.run([*command, f"{study}/flags/report"], cwd=ROOT, check=True, capture_output=True)
    assert not (disk / ".passport.h5.part").exists() and (disk / "weights.safetensors").exists()


def test_what_real_scripts_write_says_what_it_was_made_from(study, pack_file):
    """As the made-up results of this file do."""
    out = study / "adam-0/digits/full.h5"
    out.unlink()
    command = [sys.executable, "-m", "finetune.full", "--minimum", study / "adam-0"]
    flags = ["--epochs", "1", "--runs", "1", "--batch-size", "16", "--device", "cpu"]
    data = ["--data", pack_file, "--out", out]
    subprocess.run([*command, *data, *flags], cwd=ROOT, check=True, capture_output=True)
    weights = origins.metadata(study / "adam-0/weights.safetensors")
    with files.read(out) as file:
        assert file.attrs["weights"] == weights["sha256"]
        assert file.attrs["data"] == origins_of(pack_file)
    assert check.check(study / "adam-0/weights.safetensors")["kind"] == "weights"
