"""What the tests share: a small pack of made-up images, and scripts run in this process as `python -m` would."""

import json
import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from common import devices, files
from common.images import packs

ROOT = Path(__file__).resolve().parents[1]
torch.set_num_threads(1)
for name in (
    "MAKEFLAGS",
    "MFLAGS",
    "MAKELEVEL",
):  # the make that runs the tests is not the make that they run
    os.environ.pop(name, None)


def words(name):
    """A list of the Makefile, as make itself expands it."""
    rule = f"print: ; @echo $({name})"
    asked = subprocess.run(
        ["make", "-s", "--no-print-directory", f"--eval={rule}", "print", "PYTHON=python"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return asked.stdout.split()


def run(monkeypatch, module, *flags):
    """Runs `python -m MODULE FLAGS` in this process; returns the module's names. What a script makes of signals stays its own."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(sys, "argv", [module, *map(str, flags)])
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


@pytest.fixture(scope="session")
def pack_file(tmp_path_factory):
    return make_pack(tmp_path_factory.mktemp("data") / "pack.h5")


@pytest.fixture(scope="session")
def pack(pack_file):
    return packs.load(pack_file, devices.choose("cpu"))


@pytest.fixture(scope="session")
def minimum(pack_file, tmp_path_factory):
    """A folder with a minimum trained for two short epochs."""
    folder = tmp_path_factory.mktemp("minima") / "adam-0"
    subprocess.run(
        [sys.executable, "-m", "train.adam", "--data", pack_file, "--out", folder, *SHORT],
        cwd=ROOT,
        check=True,
    )
    return folder


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
]
