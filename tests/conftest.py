"""What the tests share: a small pack of made-up images, a minimum trained on it, and scripts run in
this process as `python -m` would run them.

`make quick` leaves out what is marked `slow` (more than two seconds of CPU, or COSTLY), `make test`
leaves out what is marked `full` (minutes). A test without a mark is in both.
"""

import fcntl
import functools
import json
import os
import random
import runpy
import signal
import subprocess
import sys
from pathlib import Path

# As make sets it: results' last bits depend on the number of threads, and two processes of two
# threads each on two cores take three times as long as of one. Before torch is imported.
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
# foolbox imports GitPython, which else cannot be imported where there is no git.
os.environ["GIT_PYTHON_REFRESH"] = "quiet"

import numpy as np
import pytest
import torch

from common import devices, files
from common.images import packs

ROOT = Path(__file__).resolve().parents[1]
# What people read: what it tells them to type is tried.
PAPERS = "\n".join(
    path.read_text()
    for path in [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *sorted((ROOT / "docs").glob("*.md")),
    ]
    if path.exists()
)
# The make that runs the tests is not the make that they run.
for name in "MAKEFLAGS", "MFLAGS", "MAKELEVEL":
    os.environ.pop(name, None)


# Fixtures that take long to make: what uses one is slow.
COSTLY = {"alone", "environment", "other_minimum", "passport", "study", "uninterrupted"}


# The longest files, most seconds first: a worker takes a file at a time, so what is begun last
# should be short.
LONGEST = ["slurm", "study", "training", "measuring", "ranks", "faults", "streaming", "settings"]
LONGEST += ["readme", "graph"]


def pytest_collection_modifyitems(items):
    def place(item):
        name = item.path.stem.removeprefix("test_")
        return LONGEST.index(name) if name in LONGEST else len(LONGEST)

    items.sort(key=place)


def pytest_itemcollected(item):
    if COSTLY & set(item.fixturenames):
        item.add_marker(pytest.mark.slow)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Nothing is left to chance: every test, and every fixture it makes, draws from the same seed,
    whatever ran before.
    """
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@functools.cache
def words(name, *variables):
    """A list of the Makefile, as make itself expands it, given values for other variables."""
    # With PYTHON given, setup has nothing to do: here it gets a recipe.
    rule = f"setup: ; @echo $({name})"
    command = ["make", "-s", "--no-print-directory", f"--eval={rule}", "setup"]
    command += [f"PYTHON={sys.executable}", *variables]
    asked = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return asked.stdout.split()


def run(monkeypatch, module, *flags):
    """Runs `python -m MODULE FLAGS` in this process; returns the module's names.

    What the script makes of signals and of uncaught errors ends with it.
    """
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(sys, "argv", [module, *map(str, flags)])
    # A test may have imported the script as a module; a script is executed anew.
    monkeypatch.delitem(sys.modules, module, raising=False)
    try:
        return runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def make_pack(path, train=70, val=20, test=60, size=32, classes=5):
    """A pack of `classes` coloured stripe patterns under noise, from numpy alone."""
    rng = np.random.default_rng(0)
    total = train + val + test
    labels = np.arange(total) % classes
    pattern = rng.integers(0, 256, (classes, 1, size, 3))
    images = np.clip(
        0.5 * pattern[labels] + rng.integers(0, 128, (total, size, size, 3)), 0, 255
    ).astype(np.uint8)
    split = np.repeat([0, 1, 2], [train, val, test]).astype(np.uint8)
    with files.write(path) as file:
        for name, values in ("images", images), ("labels", labels), ("split", split):
            file[name] = values
        file.attrs.update(
            kind="pack",
            classes=json.dumps([f"c{k}" for k in range(classes)]),
            image_size=size,
            fingerprint=files.sha256(images.tobytes(), labels.tobytes()),
        )
    return path


def make_once(tmp_path_factory, name, make):
    """The folder `name`, filled by `make(folder)`: once, for all workers of pytest-xdist."""
    folder = tmp_path_factory.getbasetemp() / name
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = tmp_path_factory.getbasetemp().parent / name
    made = folder.with_suffix(".made")
    with open(folder.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            make(folder)
            made.touch()
    return folder


@pytest.fixture(scope="session")
def pack_file(tmp_path_factory):
    folder = make_once(tmp_path_factory, "data", lambda folder: make_pack(folder / "pack.h5"))
    return folder / "pack.h5"


@pytest.fixture(scope="session")
def pack(pack_file):
    return packs.load(pack_file, devices.choose("cpu"))


@pytest.fixture(scope="session")
def minimum(pack_file, tmp_path_factory):
    """A folder with a minimum trained for two short epochs."""

    def train(folder):
        command = [sys.executable, "-m", "train.adam", "--data", pack_file]
        subprocess.run([*command, "--out", folder / "adam-0", *SHORT], cwd=ROOT, check=True)

    return make_once(tmp_path_factory, "minima", train) / "adam-0"


# A file of train/ or finetune/ is tested the moment it is there.
METHODS = sorted(path.stem for path in (ROOT / "train").glob("[!_]*.py"))
MODES = sorted(path.stem for path in (ROOT / "finetune").glob("[!_]*.py"))
MEASUREMENTS = words("MEASUREMENTS") + words("MEASUREMENTS_MORE")
SHORT = [
    "--epochs",
    "2",
    "--batch-size",
    "16",
    "--train-images",
    "20",
    "--device",
    "cpu",
    "--precision",
    "float32",
    "--checkpoint-every",
    "0",
]
