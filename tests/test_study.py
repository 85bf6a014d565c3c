"""The smoke study through make: everything is made once, nothing twice, and a touched script remakes what follows from it alone."""
import csv
import subprocess
import sys
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from conftest import ROOT, words

from common import stats


def make(*arguments, folder):
    return subprocess.run(["make", "PROFILE=smoke", f"PYTHON={sys.executable}", f"A={folder}", *arguments], cwd=ROOT, capture_output=True,
                          text=True)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study") / "smoke"
    made = make("all", folder=folder)
    assert made.returncode == 0, made.stdout[-3000:] + made.stderr[-3000:]
    assert made.stdout.rstrip().endswith(f"report: {folder}/report/index.html")
    return folder


MINIMA = ["adam-0", "noisy_adam-0", "swa-0", "swa_last-0"]


def test_the_report_has_one_row_a_minimum(study):
    with open(study / "report" / "summary.csv", newline="") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    assert [row["minimum"] for row in rows] == MINIMA
    assert len(list((study / "report" / "figures").glob("*.png"))) >= 8
    page = (study / "report" / "index.html").read_text()
    assert all(name in page for name in MINIMA) and "data:image/png;base64," in page
    assert not any(word in page for word in ("<script src", "<link ", 'src="http', "@import"))  # it opens anywhere by itself


def test_the_original_report_s_curves_are_drawn_behind_ours(study, tmp_path):
    results = [*study.glob("*/training.h5"), *study.glob("*/passport.h5"), *study.glob("*/pair.h5")]
    made = subprocess.run([sys.executable, "-m", "eval.report", "--out", tmp_path, "--reference", "common/paper_curves.json", *results], cwd=ROOT,
                          capture_output=True, text=True)
    assert made.returncode == 0, made.stderr[-2000:]
    with_reference, without = (folder / "figures/gaussian_noise.png" for folder in (tmp_path, study / "report"))
    assert with_reference.read_bytes() != without.read_bytes()


def test_a_second_make_does_nothing(study):
    assert make("-q", "all", folder=study).returncode == 0
    assert make("-n", "all", folder=study).stdout.strip().splitlines() == [f"echo 'report: {study}/report/index.html'"]


def remade(study, *arguments):
    """The targets that make would make again, by the flags of its commands."""
    lines = make("-n", "all", *arguments, folder=study).stdout.splitlines()
    return [line.split(" -m ")[1] for line in lines if " -m " in line]


def test_a_touched_method_remakes_its_minima_and_what_follows_alone(study):
    commands = remade(study, "-W", "train/swa.py")
    assert [command.split()[0] for command in commands if command.startswith("train")] == ["train.swa"]
    assert {command.split("--minimum ")[1].split()[0].split("/")[-1] for command in commands if "--minimum " in command} == {"swa-0", "swa_last-0"}
    assert all("swa-0" in command for command in commands if command.startswith("eval.pair"))
    assert commands[-1].startswith("eval.report")


@pytest.mark.parametrize("change, stages", [
    (["RUNS=3"], {"finetune.full"}), (["EPOCHS=6"], {"train.adam", "train.noisy_adam", "train.swa", "eval.battery", "eval.pair", "finetune.full"}),
    (["SEEDS=0 1"], {"train.adam", "train.noisy_adam", "train.swa", "eval.battery", "eval.pair", "finetune.full"}),
])
def test_a_changed_number_remakes_what_used_it(change, stages, study):
    commands = remade(study, *change)
    assert {command.split()[0] for command in commands} == stages | {"eval.report"}
    if change == ["SEEDS=0 1"]:
        assert all("-1" in command for command in commands if not command.startswith(("eval.report", "common.prepare")))
    assert remade(study) == []  # to look at what a change would do changes nothing


def test_swa_last_is_swa_s_last_iterate(study):
    assert (study / "swa_last-0/weights.safetensors").read_bytes() == (study / "swa-0/last.safetensors").read_bytes()


def test_every_result_says_where_it_comes_from(study):
    results = sorted(study.rglob("*.h5"))
    assert len(results) == 2 + 3 + 4 + 4 + 4 + 3
    for path in results:
        with h5py.File(path) as file:
            assert {"command", "settings", "seed", "code", "commit", "versions", "device", "fingerprint", "kind"} <= set(file.attrs), path
            assert file.attrs["command"].startswith("python -m ")


def test_nothing_is_left_beside_the_results(study):
    names = {path.name for path in study.rglob("*") if path.is_file()}
    assert not [name for name in names if name.startswith(".") or ".part" in name or "resume" in name]


def test_an_unknown_profile_or_a_missing_folder_is_one_line():
    for arguments, message in (["PROFILE=none", "help"], "no such profile; there are"), (["PROFILE=small", "all"], "needs IMAGENET=folder"):
        asked = subprocess.run(["make", *arguments, "PYTHON=python", "A=/nonexistent/x"], cwd=ROOT, capture_output=True, text=True)
        assert asked.returncode != 0 and message in asked.stderr and len(asked.stderr.strip().splitlines()) == 1


def test_pairs_follow_the_protocol():
    assert words("PAIRS") == [
        "adam-0--adam-1", "adam-0--noisy_adam-1", "adam-0--swa-1", "noisy_adam-0--noisy_adam-1", "noisy_adam-0--swa-1", "swa-0--swa-1",
        "adam-0--noisy_adam-0", "adam-0--swa-0", "noisy_adam-0--swa-0"]


def test_statistics_of_the_report():
    mean, std, n = stats.mean_std([1.0, 2.0, 6.0])
    assert (mean, n) == (3, 3) and std == pytest.approx(7 ** 0.5)
    assert stats.median([1, np.nan, np.nan]) == np.inf and stats.median([1, 2, np.nan]) == 2
    three = np.array([0.5, 0.4, 0.6])
    result = SimpleNamespace(kind="passport", minimum="a-0", label="a", attrs={"seed": 0}, groups={
        "clean": {"measurement": "clean", "batchnorm": "stored"}, "clean_recomputed": {"measurement": "clean", "batchnorm": "recomputed"},
        "noise": {"measurement": "noise", "batchnorm": "stored"}, "curve": {"measurement": "curve", "batchnorm": "stored"}}, data={
        "clean/summary/test/accuracy": three[None], "clean_recomputed/summary/test/accuracy": three[None] + 0.1, "clean/test/ece": np.array([0.3]),
        "noise/levels": np.array([0, 0.8]), "noise/summary/test/mean_accuracy": three, "noise/test/accuracy": np.array([[0.9], [0.1]]),
        "noise/summary/test/half_accuracy_level": three + [0, 0, np.inf], "curve/test/trace": np.array([7.0])})
    row, = stats.rows([result])
    assert row["test_accuracy"] == 0.5 and row["test_accuracy_low"] == 0.4 and row["test_accuracy_recomputed"] == 0.6 and row["test_ece"] == 0.3
    assert row["noise_test_accuracy"] == 0.5 and row["noise_test_half_accuracy_level_high"] == np.inf and row["noise_largest_level"] == 0.8
    assert row["curve_test_trace"] == 7 and "noise_test_relative" not in row
