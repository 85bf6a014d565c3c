"""Before anything is trained, every command of a study is started and stopped where its work would
begin: what its flags are wrong about is one line.
"""

import sys

import pytest
from conftest import ROOT, run

TRAIN = "--data x --out y --seed 0 --epochs 8 --batch-size 32"


def rehearse(monkeypatch, tmp_path, *commands, paired=""):
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    out = tmp_path / "rehearsed"
    run(monkeypatch, "common.making.rehearse", "--out", out, "--paired", paired, *commands)
    return out.read_text()


def trained(setting, flags=""):
    return f"train.{setting.partition('@')[0]} {TRAIN} {flags} --setting {setting}"


def refused(monkeypatch, tmp_path, capsys, *commands, **keywords):
    """The one line with which a rehearsal ends."""
    with pytest.raises(SystemExit) as end:
        rehearse(monkeypatch, tmp_path, *commands, **keywords)
    assert not (tmp_path / "rehearsed").exists()
    said = capsys.readouterr().err.strip() or str(end.value)
    assert end.value.code and len(said.splitlines()) == 1
    return said


def test_a_study_without_a_mistake_passes(monkeypatch, tmp_path):
    commands = [
        trained("adam"),
        trained("adam@lr_2e-3"),
        trained("swa", "--snapshots 5"),
        "eval.battery --data x --minimum y --out z --images 10 clean --fgsm-levels 0,0.1 fgsm",
        "eval.line --data x --minima a b --out z --points 3",
        "finetune.full --data x --minimum a --out z --setting full --runs 2",
        "finetune.full --data w --minimum a --out z --setting full --runs 2",  # another task
    ]
    passed = rehearse(monkeypatch, tmp_path, *commands, paired="adam adam@lr_2e-3 swa")
    assert passed.splitlines() == commands


@pytest.mark.parametrize(
    "command, words",
    [
        (trained("adam@sigma_0.1"), ["adam@sigma_0.1", "--sigma"]),
        (
            trained("noisy_adam@sigma_-1"),
            ["noisy_adam@sigma_-1", "--sigma", "'-1' is not a finite"],
        ),
        (trained("noisy_adam@sigma"), ["noisy_adam@sigma", "--sigma", "expected one argument"]),
        (trained("adam@deterministic_1"), ["adam@deterministic_1"]),
        (trained("swa@snapshots_1@epochs_5"), ["--snapshots 1", "fewer than 5 snapshots"]),
        (trained("adam", "--lrr 3"), ["--lrr"]),
        ("eval.battery --data x --minimum y --out z --fgsm-levels 0,b fgsm", ["--fgsm-levels"]),
        ("eval.line --data x --minima a b --out z --points 1", ["--points"]),
        ("finetune.full --data x --minimum a --out z --runs 0", ["--runs"]),
    ],
)
def test_a_flag_that_a_script_refuses_is_one_line(monkeypatch, tmp_path, capsys, command, words):
    line = refused(monkeypatch, tmp_path, capsys, trained("noisy_adam"), command)
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    "one, other",
    [
        ("noisy_adam@sigma_0.1", "noisy_adam@sigma_0.10"),
        ("noisy_adam", "noisy_adam@sigma_0.05"),
        ("adam@lr_2e-3", "adam@lr_0.002"),
        ("adam", "adam@epochs_8"),
        ("adam@lr_1e-2@epochs_3", "adam@epochs_3@lr_1e-2"),
    ],
)
def test_two_words_for_one_setting_are_one_line(monkeypatch, tmp_path, capsys, one, other):
    line = refused(monkeypatch, tmp_path, capsys, trained(one), trained(other))
    assert line.startswith(f"{one} and {other} are the same setting")


def test_two_architectures_that_are_compared_are_one_line(monkeypatch, tmp_path, capsys):
    commands = trained("adam"), trained("adam@arch_resnet34")
    rehearse(monkeypatch, tmp_path, *commands, paired="adam")
    (tmp_path / "rehearsed").unlink()
    line = refused(monkeypatch, tmp_path, capsys, *commands, paired="adam adam@arch_resnet34")
    assert line.startswith("PAIRED: adam is a resnet18 and adam@arch_resnet34 a resnet34; ")
