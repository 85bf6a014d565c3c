"""Files: whole or absent, checked before they are believed, and readable without this project."""

import h5py
import numpy as np
import pytest
import torch
import torchvision
from conftest import make_pack, run
from safetensors.torch import load_file, save_file

from common import files
from common.images import packs
from common.networks import models


def test_a_file_is_whole_or_absent(tmp_path):
    with pytest.raises(RuntimeError), files.write(tmp_path / "x.h5") as file:
        file["a"] = 1
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def curves(tmp_path):
    path = tmp_path / "curves.h5"
    with files.write(path) as file:
        epoch = files.scale(file, "epoch", np.arange(3), "passes")
        files.array(file, "loss", np.zeros(3), "nats per image", epoch)
    return path


def test_any_hdf5_tool_opens_ours(curves):
    with h5py.File(curves) as file:
        assert file["loss"].dims[0][0] == file["epoch"]
        assert file["loss"].attrs["units"] == "nats per image"


@pytest.mark.parametrize("place", [0.3, 0.7, 0.999])
def test_a_flipped_bit_is_found(place, curves):
    content = bytearray(curves.read_bytes())
    content[max(512, int(place * len(content)))] ^= 1
    curves.write_bytes(content)
    with pytest.raises(SystemExit, match="damaged"):
        files.read(curves)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "not a file that basins made"),
        (b"\x89HDF\r\n\x1a\n" + b"0" * 999, "not a file that basins made"),
    ],
)
def test_a_foreign_file_is_named(content, message, tmp_path):
    (tmp_path / "x.h5").write_bytes(content)
    with pytest.raises(SystemExit, match=f"x.h5: {message}"):
        files.read(tmp_path / "x.h5")


def test_a_truncated_and_a_missing_file_are_named(curves):
    curves.write_bytes(curves.read_bytes()[:-1])
    with pytest.raises(SystemExit, match="wrong size"):
        files.read(curves, check=False)
    with pytest.raises(SystemExit, match="No such file"):
        files.read(curves.with_name("none.h5"))


def test_weights_load_into_plain_torchvision(minimum):
    net = torchvision.models.resnet18(num_classes=5)
    net.load_state_dict(load_file(minimum / "weights.safetensors"), strict=True)
    ours, metadata = models.load(minimum / "weights.safetensors")
    images = torch.rand(2, 3, 32, 32)
    assert torch.allclose(net.eval()(images), ours.eval()(images), atol=1e-5)
    assert metadata["arch"] == "resnet18"
    assert len(metadata["classes"]) == 5 and metadata["image_size"] == 32


def test_damaged_weights_are_named(minimum, tmp_path):
    state = load_file(minimum / "weights.safetensors")
    path = tmp_path / "weights.safetensors"
    content = bytearray((minimum / "weights.safetensors").read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(SystemExit, match="damaged"):
        models.load(path)
    save_file(state, path)
    with pytest.raises(SystemExit, match="not a minimum of ours"):
        models.load(path)
    path.write_bytes(b"nothing")
    with pytest.raises(SystemExit, match="not a minimum of ours"):
        models.load(path)


def test_a_minimum_of_other_data_is_refused(minimum, tmp_path, monkeypatch):
    other = make_pack(tmp_path / "other.h5", train=40)
    with pytest.raises(SystemExit, match="trained on other data"):
        flags = "--data", other, "--minimum", minimum, "--out", tmp_path / "p.h5"
        run(monkeypatch, "eval.battery", *flags, "clean")


def test_a_pack_that_does_not_fit_gives_the_same_batches(pack_file, pack, monkeypatch):
    monkeypatch.setattr(packs, "room", lambda device: 1)
    mapped = packs.load(pack_file, torch.device("cpu"))
    index = torch.tensor([5, 0, 149])
    assert pack.resident and not mapped.resident
    for ours, other in zip(mapped.batch(index), pack.batch(index)):
        assert torch.equal(ours, other)


def test_subsets_are_stratified_and_fixed(pack):
    index = pack.subset("test", 23)
    assert len(set(index.tolist())) == 23
    assert torch.equal(index, pack.subset("test", 23))
    assert torch.equal(index, index.sort().values)
    counts = torch.bincount(pack.labels[index], minlength=5)
    assert counts.max() - counts.min() <= 1
    assert set(index.tolist()) <= set(pack.indices("test").tolist())


def test_a_large_file_is_hashed_in_pieces_and_every_byte_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "PIECE", 1000)
    with files.write(tmp_path / "large.h5") as file:
        file["values"] = np.arange(1000)
    files.read(tmp_path / "large.h5").close()
    content = (tmp_path / "large.h5").read_bytes()
    for place in files.USER_BLOCK, files.USER_BLOCK + 1000, len(content) - 1:
        changed = bytearray(content)
        changed[place] ^= 1
        (tmp_path / "large.h5").write_bytes(changed)
        with pytest.raises(SystemExit, match="a byte changed"):
            files.read(tmp_path / "large.h5")
