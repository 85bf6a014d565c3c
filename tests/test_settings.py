"""Settings: words such as noisy_adam@sigma_0.1, what scripts make of them, and what files say."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import h5py
import pytest
import torch
from compare import values
from conftest import ROOT, SHORT, run
from safetensors.torch import load_file

from common import files, settings
from common.networks import models, weights
from common.training import checkpoint, pretraining
from common.training import run as training_run

SWA = ["--epochs", 5, "--snapshots", 5, "--target", 0.01, "--batch-size", 14]
NAMES = "method", "setting", "seed", "minimum", "start"


@pytest.mark.parametrize(
    "word, method, flags",
    [
        ("adam", "adam", []),
        ("noisy_adam@sigma_0.1", "noisy_adam", ["--sigma=0.1"]),
        ("adam@lr_2e-3@weight-decay_0", "adam", ["--lr=2e-3", "--weight-decay=0"]),
        ("sam@adaptive", "sam", ["--adaptive"]),
        ("adam@train-on_train+val", "adam", ["--train-on=train+val"]),
        ("adam@arch_wide_resnet50_2", "adam", ["--arch=wide_resnet50_2"]),
        ("adam@lr_-1", "adam", ["--lr=-1"]),
    ],
)
def test_a_word_is_a_file_and_its_flags(word, method, flags):
    assert settings.method(word) == method and settings.flags(word) == flags


@pytest.mark.parametrize(
    "word", ["", "adam@", "@lr_1", "adam@lr_", "adam@lr=1", "adam@@lr_1", "ad am", "adam@lr_1,2"]
)
def test_what_is_no_setting_is_one_line(word):
    with pytest.raises(SystemExit, match=r"^.*: not a setting; write METHOD@FLAG_VALUE") as stopped:
        settings.flags(word)
    assert str(stopped.value).startswith(f"{word}: ")


def test_several_values_of_a_flag_are_several_settings():
    assert settings.expand("adam") == ["adam"]
    assert settings.expand("sam@rho_0.1@adaptive") == ["sam@rho_0.1@adaptive"]
    assert settings.expand("adam@lr_1e-3,2e-3@batch-size_64,256") == [
        "adam@lr_1e-3@batch-size_64",
        "adam@lr_1e-3@batch-size_256",
        "adam@lr_2e-3@batch-size_64",
        "adam@lr_2e-3@batch-size_256",
    ]
    with pytest.raises(SystemExit, match="^adam,swa: words are separated by blanks"):
        settings.expand("adam,swa")


def test_words_need_the_standard_library_alone():
    script = "import common.settings"
    subprocess.run([sys.executable, "-S", "-c", script], cwd=ROOT, check=True)


def test_flags_of_a_word_come_last_and_win():
    given = ["--data", "pack.h5", "--out", "out", "--lr", "1", "--epochs", "3"]
    args = pretraining.parser("").parse_args([*given, "--setting", "adam@lr_2e-3@no-compile"])
    assert (args.lr, args.epochs, args.no_compile) == (2e-3, 3, True)
    assert pretraining.parser("").parse_args(given).setting is None


@pytest.mark.parametrize(
    "word, status, message",
    [
        ("noisy_adam@sigma_-1", 2, "argument --sigma: '-1' is not a finite number of 0 or more"),
        ("noisy_adam@sigma", 2, "argument --sigma: expected one argument"),
        ("noisy_adam@rho_0.1", 2, "noisy_adam has no flag --rho (--help"),
        ("noisy_adam@sig_0.1", 2, "noisy_adam has no flag --sig (--help"),
        ("noisy_adam@deterministic_1", 2, "argument --deterministic: ignored explicit argument"),
        ("noisy_adam@sigma_-1e-3", 2, "argument --sigma: '-1e-3' is not a finite number"),
        ("noisy_adam@sigma_1@sigma_2", 1, "--sigma stands there twice"),
        ("noisy_adam@seed_3", 2, "a setting cannot set --seed"),
        ("noisy_adam@help", 2, "a setting cannot set --help"),
        ("noisy_adam@sigma_0.1@", 1, "not a setting"),
    ],
)
def test_a_word_that_a_script_refuses_is_named(word, status, message, monkeypatch, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, "train.noisy_adam", "--data", "x", "--out", "x", "--setting", word)
    said = capsys.readouterr().err if status == 2 else f"{stopped.value.code}\n"
    assert said.startswith(f"{word}: {message}") and said.count("\n") == 1
    assert status == 1 or stopped.value.code == 2


def test_a_setting_of_another_file_is_refused(pack_file, minimum, tmp_path, monkeypatch):
    given = "--data", pack_file, "--setting", "swa@lr_1"
    with pytest.raises(SystemExit, match="^--setting swa@lr_1: is a setting of swa, and this is "):
        run(monkeypatch, "train.adam", *given, "--out", tmp_path / "adam-0")
    with pytest.raises(SystemExit, match="and this is full; run that one, or write full@FLAG"):
        run(monkeypatch, "finetune.full", *given, "--minimum", minimum, "--out", tmp_path / "f.h5")
    assert list(tmp_path.iterdir()) == []


def test_without_a_word_the_setting_is_the_file_s_name():
    nothing = SimpleNamespace(setting=None)
    assert training_run.setting_of(nothing, "/anywhere/noisy_adam.py") == "noisy_adam"


@pytest.mark.slow
def test_a_word_gives_what_its_flags_give_to_the_last_bit(pack_file, tmp_path, monkeypatch, capsys):
    """The word is a label: a run that was killed under flags goes on under the word."""

    def train(folder, *flags):
        out = tmp_path / folder
        run(monkeypatch, "train.noisy_adam", "--data", pack_file, "--out", out, *SHORT, *flags)
        return out

    class Killed(Exception):
        pass

    def save_and_die(*args):
        save(*args)
        raise Killed

    by_flags = train("flags", "--seed", 3, "--sigma", 0.1)
    save = checkpoint.save
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(checkpoint, "save", save_and_die)
        train("word", "--seed", 3, "--sigma", 0.1)
    by_word = train("word", "--seed", 3, "--setting", "noisy_adam@sigma_0.1")
    assert "noisy_adam@sigma_0.1-3: continues after epoch 1 of 2" in capsys.readouterr().out

    (_, plain), (_, named) = (
        models.load(folder / "weights.safetensors") for folder in (by_flags, by_word)
    )
    assert plain["sha256"] == named["sha256"]
    label = "noisy_adam@sigma_0.1", 3, "noisy_adam@sigma_0.1-3", ""
    assert tuple(named[name] for name in NAMES) == ("noisy_adam", *label)
    assert tuple(plain[name] for name in NAMES[1:]) == ("noisy_adam", 3, "noisy_adam-3", "")
    curves, expected = values(by_word / "training.h5"), values(by_flags / "training.h5")
    assert curves.keys() == expected.keys()
    assert all((curves[name] == expected[name]).all() for name in curves)
    with (
        h5py.File(by_flags / "training.h5") as one,
        h5py.File(by_word / "training.h5") as other,
    ):
        for name in "settings", "fingerprint":
            assert one.attrs[name] == other.attrs[name]
        assert json.loads(one.attrs["settings"])["sigma"] == 0.1
        assert {name: other.attrs[name] for name in NAMES} == {name: named[name] for name in NAMES}


@pytest.mark.slow
def test_what_a_method_leaves_beside_its_minimum_is_one(
    pack_file, minimum, tmp_path, monkeypatch, capsys
):
    """SWA's last iterate, and all that is made of it, say what they are whatever their folders."""
    visited = []
    copy_to = weights.Average.copy_to

    def note(average, model):
        visited.append({name: value.clone() for name, value in model.state_dict().items()})
        copy_to(average, model)

    monkeypatch.setattr(weights.Average, "copy_to", note)
    out, word = tmp_path / "any", "swa@swa-lr_1e-3"
    data = "--data", pack_file
    run(monkeypatch, "train.swa", *data, "--out", out, *SHORT, *SWA, "--setting", word)
    assert sorted(path.name for path in out.rglob("*")) == [
        "last",
        "training.h5",
        "weights.safetensors",
        "weights.safetensors",
    ]
    average, last = (load_file(folder / "weights.safetensors") for folder in (out, out / "last"))
    assert all(torch.equal(last[name], value) for name, value in visited[0].items())
    assert not torch.equal(last["conv1.weight"], average["conv1.weight"])
    _, metadata = models.load(out / "last" / "weights.safetensors")
    expected = dict(zip(NAMES, ("swa", f"{word}/last", 0, f"{word}-0/last", "")))
    assert {name: metadata[name] for name in NAMES} == expected

    capsys.readouterr()
    measured = "--images", 20, "--batchnorm-images", 20
    given = *data, "--minimum", out / "last", "--out", out / "last" / "passport.h5"
    run(monkeypatch, "eval.battery", *given, *measured, "clean")
    assert capsys.readouterr().out.startswith(f"{word}-0/last clean: ")
    with h5py.File(out / "last" / "passport.h5") as file:
        assert {name: file.attrs[name] for name in NAMES} == expected

    pair = tmp_path / "distance.h5"
    given = *data, "--minima", minimum, out / "last", "--out", pair
    run(monkeypatch, "eval.distance", *given, *measured)
    with h5py.File(pair) as file:
        said = {name: json.loads(file.attrs[name]) for name in ("minima", "methods", "seeds")}
        assert said == {
            "minima": ["adam-0", f"{word}-0/last"],
            "methods": ["adam", "swa"],
            "seeds": [0, 0],
        }
        assert json.loads(file.attrs["settings_of_minima"]) == ["adam", f"{word}/last"]
        assert file.attrs["shared_start"]


@pytest.mark.slow
def test_finetuning_says_what_it_is_and_a_word_alone_makes_nothing_anew(
    pack_file, minimum, tmp_path, monkeypatch, capsys
):
    def finetune(*flags):
        given = "--data", pack_file, "--minimum", minimum, "--out", tmp_path / "f.h5", *SHORT
        run(monkeypatch, "finetune.full", *given, "--epochs", 1, "--runs", 1, *flags)
        with h5py.File(tmp_path / "f.h5") as file:
            return dict(file.attrs), capsys.readouterr().out

    plain, _ = finetune("--lr", 3e-4)
    named, printed = finetune("--setting", "full@lr_3e-4")
    assert printed == "" and named["fingerprint"] == plain["fingerprint"]
    assert plain["mode_setting"] == "full" and named["mode_setting"] == "full@lr_3e-4"
    expected = {"start": "adam-0", "minimum": "adam-0", "setting": "adam", "method": "adam"}
    expected |= {"mode": "full", "task": "pack", "seed": 0, "kind": "finetune"}
    assert expected.items() <= named.items()
    _, printed = finetune("--setting", "full@lr_1e-3")
    assert printed.startswith("adam-0 pack full@lr_1e-3 run 1/1 epoch 0/1: ")


def tried(path, val, **attrs):
    """What `make tune` leaves of a setting: accuracy on val, or on test where `val` is None."""
    split, accuracy = ("test", 0.9) if val is None else ("val", val)
    with files.write(path) as file:
        file.attrs.update({"method": "adam", "setting": "adam", "start": ""} | attrs)
        for name in "train", split:
            file[f"{name}/accuracy"] = [[0.1, accuracy]]
            file[f"final/{name}_accuracy"] = accuracy
    return path


def test_tuning_names_settings_by_their_words(tmp_path, monkeypatch, capsys):
    mode = {"kind": "finetune", "mode": "full", "task": "digits"}
    tuned = [
        tried(tmp_path / "1.h5", 0.3, kind="training"),
        tried(tmp_path / "2.h5", 0.5, kind="training", setting="adam@lr_2e-3"),
        tried(tmp_path / "3.h5", 0.2, mode_setting="full@lr_1e-3", **mode),
        tried(tmp_path / "4.h5", 0.1, kind="training", setting="adam@lr_2e-3"),  # another seed
    ]
    run(monkeypatch, "eval.tuning", *tuned)
    assert capsys.readouterr().out.splitlines() == [
        "adam: val accuracy of 2 settings, the best first",
        "  0.3000  (train 0.3000)  adam   <- best on val",
        "  0.3000  (train 0.3000)  adam@lr_2e-3",
        "full finetuning on digits: val accuracy of 1 settings, the best first",
        "  0.2000  (train 0.2000)  full@lr_1e-3   <- best on val",
    ]
    with pytest.raises(SystemExit, match="5.h5: has no accuracy on val"):
        run(monkeypatch, "eval.tuning", tried(tmp_path / "5.h5", None, kind="training"))


@pytest.mark.slow
def test_a_method_that_forgets_to_finish_fails(pack_file, tmp_path):
    source = (ROOT / "train/adam.py").read_text()
    last = "    pretraining.finish(run)\n"
    assert source.count(last) == 1
    forgetful = tmp_path / "forgetful.py"
    forgetful.write_text(source.replace(last, ""))
    command = [sys.executable, "-m", "forgetful", "--data", pack_file, "--out", tmp_path, *SHORT]
    done = subprocess.run(
        list(map(str, command)),
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{tmp_path}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    expected = f"{forgetful}: trained, and left no minimum; end it with pretraining.finish(run)\n"
    assert done.stderr == expected
