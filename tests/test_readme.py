"""What the papers tell people to type: the make commands, and the code of CONTRIBUTING and the
README, which is saved where they say and run as it stands.
"""

import re
import shlex
import shutil
import subprocess
import sys
from importlib import import_module

import h5py
import numpy as np
import pytest
import torch
from conftest import ROOT, SHORT, run
from safetensors.torch import load_file

PAPERS = ["README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in ROOT.glob("docs/*.md"))]
MEASURED = ["--images", "20", "--batchnorm-images", "20", "--device", "cpu"]


def text(paper):
    return (ROOT / paper).read_text()


def scripts():
    """{path: code} of each file that a paper tells people to save."""
    pattern = r"[Ss]ave it as `([^`]+)`:\n\n```python\n(.*?)```"
    return {
        path: code for paper in PAPERS for path, code in re.findall(pattern, text(paper), re.DOTALL)
    }


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """Saves every script of the papers beside the project's own, in a folder of the test's."""
    for path, code in scripts().items():
        file = tmp_path / path
        file.parent.mkdir(exist_ok=True)
        file.write_text(code)
        package = import_module(path.split("/")[0])
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(file.parent)])
    return tmp_path


def train(monkeypatch, method, pack_file, out, *flags):
    """The weights that a method leaves in the folder `out`."""
    run(monkeypatch, f"train.{method}", "--data", pack_file, "--out", out, *SHORT, *flags)
    return load_file(out / "weights.safetensors")


def test_the_papers_have_one_of_each():
    assert set(scripts()) == {
        "train/mixup.py",
        "eval/rotation.py",
        "eval/disagreement.py",
        "finetune/linear_probe.py",
    }


def test_the_readme_is_short_and_its_first_screen_shows_how_to_run_it():
    words = text("README.md").split()
    first = " ".join(words[:150])
    assert len(words) <= 1500
    assert all(what in first for what in ("![", "make test", "make all"))


@pytest.mark.parametrize("paper", [*PAPERS, "CHANGELOG.md"])
def test_links_lead_somewhere(paper):
    for link in re.findall(r"\]\(([^)#]+)\)", text(paper)):
        assert "://" in link or ((ROOT / paper).parent / link).exists(), link


def test_tests_that_papers_name_are_there():
    defined = "".join(path.read_text() for path in (ROOT / "tests").glob("test_*.py"))
    named = re.findall(r"`(test_\w+)`", (ROOT / "docs/promises.md").read_text())
    assert len(named) > 50 and [name for name in named if f"def {name}(" not in defined] == []


@pytest.mark.parametrize("paper", PAPERS)
def test_modules_that_papers_run_are_there(paper):
    for module in re.findall(r"python -m ([a-z_.]+)", text(paper)):
        path = module.replace(".", "/")
        there = (ROOT / f"{path}.py").exists() or (ROOT / path / "__main__.py").exists()
        assert there or f"{path}.py" in scripts(), module


def make_commands():
    """Every make command of the papers, once: {command: the paper that it is from}."""
    commands = {}
    for paper in PAPERS:
        # A line of its own, or the first cell of a table.
        for line in re.findall(r"^(?: *|\| `)(make [^#\n`]*)", text(paper), re.MULTILINE):
            commands.setdefault(line.strip(), paper)
    return commands


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The project with the papers' own files in it, and a folder data/ of people's images."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copy(ROOT / "Makefile", folder)
    for name in "common", "train", "eval", "finetune", "profiles":
        shutil.copytree(ROOT / name, folder / name)
    for path, code in scripts().items():
        (folder / path).write_text(code)
    for name in "imagenet100", "cifar10":
        (folder / "data" / name).mkdir(parents=True)
    return folder


@pytest.mark.parametrize("command", make_commands())
def test_make_understands_the_papers(command, project):
    target = shlex.split(command.replace("/data/", f"{project}/data/"))[1:]
    if "-C" in target:  # a second checkout
        target = target[2:]
    asked = subprocess.run(
        ["make", "-n", *target, f"PYTHON={sys.executable}"],
        cwd=project,
        capture_output=True,
        text=True,
    )
    assert asked.returncode == 0, asked.stderr


@pytest.mark.slow
def test_a_new_method(saved, pack_file, monkeypatch):
    adam = train(monkeypatch, "adam", pack_file, saved / "adam-0")
    mixup = train(monkeypatch, "mixup", pack_file, saved / "mixup-0")
    assert not torch.equal(mixup["conv1.weight"], adam["conv1.weight"])
    assert all(value.isfinite().all() for value in mixup.values())


@pytest.mark.slow
def test_a_new_measurement(saved, minimum, pack_file, monkeypatch):
    out = saved / "passport.h5"
    given = "--data", pack_file, "--minimum", minimum, "--out", out, *MEASURED
    run(monkeypatch, "eval.battery", *given, "--rotation-levels", "0,10,90", "clean", "rotation")
    with h5py.File(out) as file:
        rotation, clean = file["rotation"], file["clean"]
        assert rotation.attrs["title"] == "Rotation"
        assert rotation["test/loss"].shape == (3, 2)  # levels, repeats
        assert (rotation["test/loss"][0] == clean["test/loss"][0]).all()
        assert (rotation["test/loss"][1:] != clean["test/loss"][0]).all()
    run(monkeypatch, "eval.rotation", *given)


def test_rotation_turns_images(saved):
    module = import_module("eval.rotation")
    images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    quarter, half = module.perturb(images, None, [90.0, 180.0], torch.Generator(), None)
    to_left, to_right = torch.rot90(images, 1, (2, 3)), torch.rot90(images, -1, (2, 3))
    for image, left, right in zip(quarter, to_left, to_right):
        assert torch.allclose(image, left, atol=1e-4) or torch.allclose(image, right, atol=1e-4)
    assert torch.allclose(half, images.flip(2, 3), atol=1e-4)


@pytest.mark.slow
def test_a_new_comparison(saved, minimum, pack_file, monkeypatch):
    train(monkeypatch, "mixup", pack_file, saved / "mixup-0")
    for other in minimum, saved / "mixup-0":
        out = saved / f"{other.name}.h5"
        given = "--data", pack_file, "--minima", minimum, other, "--out", out, *MEASURED
        run(monkeypatch, "eval.disagreement", *given)
    with h5py.File(saved / f"{minimum.name}.h5") as file:
        assert file["disagreement/test"][()] == file["disagreement/train"][()] == 0
    with h5py.File(saved / "mixup-0.h5") as file:
        assert file.attrs["comparison"] == "disagreement"
        assert 0 <= file["disagreement/test"][()] <= 1


@pytest.mark.slow
def test_a_new_mode(saved, minimum, pack_file, monkeypatch):
    out = saved / "linear_probe.h5"
    given = "--data", pack_file, "--minimum", minimum, "--out", out, *SHORT
    run(monkeypatch, "finetune.linear_probe", *given, "--runs", 1, "--lr", 0.01)
    with h5py.File(out) as file:
        assert file.attrs["mode"] == "linear_probe"
        assert np.all(file["distance/all"][0] == 0)
        assert file["distance/head"][0, -1] > 0
        assert file["train/loss"][0, -1] < file["train/loss"][0, 0]
