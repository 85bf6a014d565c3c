"""Packs: every source to one file with fixed splits."""
import json

import h5py
import numpy as np
import pytest
from conftest import run
from PIL import Image

from common import glyphs


def pack(monkeypatch, source, out, *flags):
    run(monkeypatch, "common.prepare", source, "--out", out, "--image-size", 16, "--workers", 1, *flags)
    with h5py.File(out) as file:
        return {name: file[name][()] for name in file} | dict(file.attrs)


def folder(root, train="train", test="val", classes=("cat", "dog", "a ship"), images=6, size=(40, 30)):
    rng = np.random.default_rng(1)
    for part, count in (train, images), (test, 3):
        for name in classes:
            (root / part / name).mkdir(parents=True, exist_ok=True)
            for k in range(count):
                Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), np.uint8)).save(root / part / name / f"{part}{k}.png")
    return root


def test_glyphs_are_drawn_alike_every_time_and_more_of_them_change_none(tmp_path, monkeypatch):
    counts = ["--train-per-class", 2, "--val-per-class", 1, "--test-per-class", 1]
    a, b = (pack(monkeypatch, "glyphs:digits", tmp_path / name, *counts) for name in ("a.h5", "b.h5"))
    assert a["fingerprint"] == b["fingerprint"] and a["images"].shape == (40, 16, 16, 3)
    assert len(glyphs.LETTERS) == len(set(glyphs.LETTERS)) == 50 and json.loads(a["classes"]) == list("0123456789")
    more = pack(monkeypatch, "glyphs:digits", tmp_path / "c.h5", "--train-per-class", 3, "--val-per-class", 1, "--test-per-class", 1)
    at = {name: image for name, image in zip(more["from"], more["images"])}
    assert all((at[name] == image).all() for name, image in zip(a["from"], a["images"]))
    assert len(np.unique(a["images"].reshape(40, -1), axis=0)) == 40


def test_a_folder_of_images(tmp_path, monkeypatch):
    found = pack(monkeypatch, folder(tmp_path / "data"), tmp_path / "p.h5", "--val-per-class", 2)
    assert json.loads(found["classes"]) == ["a ship", "cat", "dog"]
    assert np.bincount(found["split"]).tolist() == [12, 6, 9]
    assert len(set(found["from"])) == 27 and all((b"val/" in name) == (split == 2) for name, split in zip(found["from"], found["split"]))
    assert all(np.bincount(found["labels"][found["split"] == split]).tolist() == [count] * 3 for split, count in enumerate((4, 2, 3)))


def test_test_wins_over_val_and_caps_and_draws_hold(tmp_path, monkeypatch):
    folder(tmp_path / "data", test="test")
    folder(tmp_path / "data", test="val")
    found = pack(monkeypatch, tmp_path / "data", tmp_path / "p.h5", "--val-per-class", 1, "--train-per-class", 2, "--classes", 2)
    assert np.bincount(found["split"]).tolist() == [4, 2, 6] and all(name.startswith((b"test/", b"train/")) for name in found["from"])


def test_imagenet_100_s_own_layout_and_a_class_list(tmp_path, monkeypatch):
    folder(tmp_path / "data", train="train.X1", test="val.X", classes=("n01",))
    folder(tmp_path / "data", train="train.X2", test="val.X", classes=("n02",))
    (tmp_path / "list.txt").write_text("n02\tsecond\n")
    assert json.loads(pack(monkeypatch, tmp_path / "data", tmp_path / "p.h5", "--val-per-class", 1)["classes"]) == ["n01", "n02"]
    found = pack(monkeypatch, tmp_path / "data", tmp_path / "q.h5", "--val-per-class", 1, "--class-list", tmp_path / "list.txt")
    assert json.loads(found["classes"]) == ["n02"]


def test_resizing_is_antialiased_and_keeps_proportions(tmp_path, monkeypatch):
    root = folder(tmp_path / "data")
    stripes = np.zeros((64, 128, 3), np.uint8)
    stripes[:, ::2] = 255  # one-pixel stripes: any subsampling without antialiasing gives black or white
    Image.fromarray(stripes).save(root / "val" / "cat" / "val0.png")
    found = pack(monkeypatch, root, tmp_path / "p.h5", "--val-per-class", 1)
    image = found["images"][[name == b"val/cat/val0.png" for name in found["from"]]][0]
    assert abs(image.astype(int) - 127).max() < 30


@pytest.mark.parametrize("break_it, message", [
    (lambda root: (root / "train/cat/bad.png").write_bytes(b"no image"), "bad.png: not a readable image"),
    (lambda root: (root / "val").rename(root / "other"), "needs train/CLASS"),
    (lambda root: [path.unlink() for path in (root / "train/cat").iterdir()], "class cat has 0 images"),
])
def test_bad_folders_are_one_clear_line(break_it, message, tmp_path, monkeypatch):
    root = folder(tmp_path / "data")
    break_it(root)
    with pytest.raises(SystemExit, match=message):
        pack(monkeypatch, root, tmp_path / "p.h5", "--val-per-class", 1)
    assert not list(tmp_path.glob("*.h5*"))


def test_broken_images_can_be_skipped_and_are_counted(tmp_path, monkeypatch, capsys):
    root = folder(tmp_path / "data")
    (root / "train" / "cat" / "bad.png").write_bytes(b"no image")
    found = pack(monkeypatch, root, tmp_path / "p.h5", "--val-per-class", 1, "--skip-broken")
    assert "1 unreadable images left out" in capsys.readouterr().out and len(found["images"]) == len(found["labels"]) == 27


@pytest.mark.parametrize("source, message", [("glyphs:runes", "glyphs:runes"), ("/no/such/folder", "needs train/CLASS")])
def test_a_wrong_source_is_named(source, message, tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match=message):
        pack(monkeypatch, source, tmp_path / "p.h5")


def test_cifar_10_comes_from_torchvision(tmp_path, monkeypatch):
    """torchvision's own reader is replaced: its download and checksums are its own business."""
    class CIFAR10:
        classes = [f"c{label}" for label in range(10)]

        def __init__(self, root, train, download=False):
            self.targets = [label for label in range(10) for _ in range(5 if train else 2)]
            self.data = np.arange(len(self.targets), dtype=np.uint8)[:, None, None, None] + np.full((1, 32, 32, 3), 100 * (not train), np.uint8)

    monkeypatch.setattr("torchvision.datasets.CIFAR10", CIFAR10)
    found = pack(monkeypatch, f"cifar10:{tmp_path}", tmp_path / "p.h5", "--val-per-class", 2)
    assert np.bincount(found["split"]).tolist() == [30, 20, 20] and json.loads(found["classes"])[3] == "c3"
    for image, label, split, name in zip(found["images"], found["labels"], found["split"], found["from"]):
        place = int(name.split(b"/")[1])
        assert (image == place + 100 * (split == 2)).all() and label == place // (2 if split == 2 else 5)


def test_cifar_10_that_cannot_be_had_is_one_line(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise RuntimeError("no network")
    monkeypatch.setattr("torchvision.datasets.CIFAR10", refuse)
    with pytest.raises(SystemExit, match="cannot be downloaded"):
        pack(monkeypatch, f"cifar10:{tmp_path}", tmp_path / "p.h5")
