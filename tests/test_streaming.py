"""Data larger than memory: batches are read from the pack a batch ahead, and nothing that is
measured can tell.
"""

import time

import h5py
import numpy as np
import pytest
import torch
from compare import values
from conftest import METHODS, MODES, SHORT, run
from PIL import Image
from safetensors.torch import load_file

from common import files
from common.images import packs
from tests.bench import spawn

QUICK = ["--device", "cpu", "--batchnorm-images", 40, "--images", 60]
# A measurement of each kind: all of a kind get their images in one way.
FAMILIES = {
    "clean": [],
    "fgsm": ["--fgsm-levels", "0,0.01"],
    "local_energy": ["--local-energy-levels", "0,0.1", "--local-energy-repeats", 1],
    "hessian": ["--hessian-iterations", 1, "--hessian-vectors", 1],
}


@pytest.fixture
def both_ways(monkeypatch, pack_file):
    """Runs a script on the pack in memory, and again on the pack read from the disk.

    Returns the arrays of both outputs. `out(from_disk)` is the script's --out, `result(out)` the
    file to look at.
    """
    read = packs.Pack.read

    def go(script, *flags, out, result):
        outputs = []
        for from_disk in False, True:
            batches = []

            def counted(self, index, batches=batches):
                batches.append(len(index))
                return read(self, index)

            with monkeypatch.context() as patch:
                if from_disk:
                    patch.setattr(packs, "room", lambda device: 1)
                    patch.setattr(packs.Pack, "read", counted)
                run(patch, script, "--data", pack_file, "--out", out(from_disk), *flags)
            assert bool(batches) == from_disk
            outputs.append(values(result(out(from_disk))))
        return outputs

    return go


def identical(one, other):
    assert one.keys() == other.keys() and one
    for name, array in one.items():
        is_float = np.asarray(array).dtype.kind == "f"
        assert np.array_equal(array, other[name], equal_nan=is_float), name


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_training_has_the_same_bits(method, both_ways, tmp_path):
    extra = []
    if method == "swa":
        extra = ["--epochs", 5, "--snapshots", 5, "--target", 0.01, "--batch-size", 14]
    identical(
        *both_ways(
            f"train.{method}",
            *SHORT,
            *extra,
            out=lambda read: tmp_path / f"{read}-0",
            result=lambda out: out / "training.h5",
        )
    )
    one, other = (
        load_file(tmp_path / f"{read}-0" / "weights.safetensors") for read in (False, True)
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_on_a_gpu_images_are_read_into_the_recorded_step(both_ways, tmp_path):
    flags = [*SHORT[:-3], "cuda", "--precision", "float32", "--deterministic"]
    identical(
        *both_ways(
            "train.noisy_adam",
            *flags,
            out=lambda read: tmp_path / f"{read}-0",
            result=lambda out: out / "training.h5",
        )
    )


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_finetuning_has_the_same_bits(mode, both_ways, minimum, tmp_path):
    identical(
        *both_ways(
            f"finetune.{mode}",
            *SHORT,
            "--minimum",
            minimum,
            "--runs",
            1,
            out=lambda read: tmp_path / f"{read}.h5",
            result=lambda out: out,
        )
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_measurements_have_the_same_bits(name, both_ways, minimum, tmp_path):
    identical(
        *both_ways(
            "eval.battery",
            *QUICK,
            "--minimum",
            minimum,
            name,
            *FAMILIES[name],
            out=lambda read: tmp_path / f"{read}.h5",
            result=lambda out: out,
        )
    )


@pytest.mark.slow
def test_comparisons_have_the_same_bits(both_ways, minimum, tmp_path):
    """`distance` reads no image."""
    identical(
        *both_ways(
            "eval.line",
            *QUICK,
            "--points",
            2,
            "--minima",
            minimum,
            minimum,
            out=lambda read: tmp_path / f"{read}.h5",
            result=lambda out: out,
        )
    )


def test_a_batch_is_read_while_the_one_before_is_used(pack_file):
    pack = packs.load(pack_file, torch.device("cpu"), resident=False)
    begun, limit = [], time.monotonic() + 30
    pack.read = lambda index, read=pack.read: begun.append(index) or read(index)
    for number, (images, _) in enumerate(pack.batches(torch.arange(60).split(20))):
        while len(begun) < min(number + 2, 3):  # the reader's own thread begins it
            assert time.monotonic() < limit
            time.sleep(0.001)
        pixels = (images * 255).round().byte().permute(0, 2, 3, 1)
        assert torch.equal(pixels, pack.images[20 * number : 20 * number + 20])
    assert number == 2


@pytest.mark.slow
def test_preparing_holds_no_more_of_a_larger_pack(tmp_path):
    """Peak memory of the packing process at 30 and at 180 MB."""
    peaks = []
    for count in 50, 300:
        for split in "train", "val":
            for label in "a", "b":
                folder = tmp_path / str(count) / split / label
                folder.mkdir(parents=True)
                for index in range(count):
                    Image.new("RGB", (8, 8), (index % 256, 0, 0)).save(folder / f"{index}.png")
        flags = "--image-size", 224, "--val-per-class", 1, "--workers", 1
        out = tmp_path / f"{count}.h5"
        _, peak = spawn("common.images.prepare", tmp_path / str(count), "--out", out, *flags)
        peaks.append(peak)
    with h5py.File(tmp_path / "300.h5") as file:
        assert file["images"].nbytes > 180e6
    assert files.read(tmp_path / "300.h5")
    assert peaks[1] - peaks[0] < 30, peaks
