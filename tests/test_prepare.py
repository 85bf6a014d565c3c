"""Packs: every source becomes one file with fixed splits."""

import hashlib
import io
import json
import os
import shutil
import signal
import struct
import tarfile
import zlib

import h5py
import numpy as np
import pytest
from conftest import run
from PIL import Image

from common.images import glyphs, sources


def pack(monkeypatch, source, out, *flags):
    """What stands in the pack of a source: its datasets and attributes by name."""
    flags = "--image-size", 16, "--workers", 1, *flags
    run(monkeypatch, "common.images.prepare", source, "--out", out, *flags)
    with h5py.File(out) as file:
        return {name: file[name][()] for name in file} | dict(file.attrs)


def folder(
    root, train="train", test="val", classes=("cat", "dog", "a ship"), images=6, size=(40, 30)
):
    rng = np.random.default_rng(1)
    """A folder of noise images: `images` a class to train on, 3 to test."""
    for split, count in (train, images), (test, 3):
        for name in classes:
            (root / split / name).mkdir(parents=True, exist_ok=True)
            for index in range(count):
                pixels = rng.integers(0, 256, (*size[::-1], 3), np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{split}{index}.png")
    return root


def test_glyphs_are_drawn_alike_every_time_and_more_of_them_change_none(tmp_path, monkeypatch):
    counts = ["--train-per-class", 2, "--val-per-class", 1, "--test-per-class", 1]
    a, b = (
        pack(monkeypatch, "glyphs:digits", tmp_path / name, *counts) for name in ("a.h5", "b.h5")
    )
    assert a["fingerprint"] == b["fingerprint"] and a["images"].shape == (40, 16, 16, 3)
    assert len(glyphs.LETTERS) == len(set(glyphs.LETTERS)) == 50
    assert json.loads(a["classes"]) == list("0123456789")
    more = pack(monkeypatch, "glyphs:digits", tmp_path / "c.h5", *counts, "--train-per-class", 3)
    images = dict(zip(more["from"], more["images"]))
    assert all((images[name] == image).all() for name, image in zip(a["from"], a["images"]))
    assert len(np.unique(a["images"].reshape(40, -1), axis=0)) == 40


def test_a_folder_of_images(tmp_path, monkeypatch):
    packed = pack(monkeypatch, folder(tmp_path / "data"), tmp_path / "p.h5", "--val-per-class", 2)
    assert json.loads(packed["classes"]) == ["a ship", "cat", "dog"]
    assert np.bincount(packed["split"]).tolist() == [12, 6, 9]
    assert len(set(packed["from"])) == 27
    for name, split in zip(packed["from"], packed["split"]):
        assert (b"val/" in name) == (split == 2)
    for split, count in enumerate((4, 2, 3)):
        labels = packed["labels"][packed["split"] == split]
        assert np.bincount(labels).tolist() == [count] * 3


def test_test_wins_over_val_and_caps_and_draws_hold(tmp_path, monkeypatch):
    folder(tmp_path / "data", test="test")
    folder(tmp_path / "data", test="val")
    flags = "--val-per-class", 1, "--train-per-class", 2, "--classes", 2
    packed = pack(monkeypatch, tmp_path / "data", tmp_path / "p.h5", *flags)
    assert np.bincount(packed["split"]).tolist() == [4, 2, 6]
    assert all(name.startswith((b"test/", b"train/")) for name in packed["from"])


def test_imagenet_100_s_own_layout_and_a_class_list(tmp_path, monkeypatch):
    folder(tmp_path / "data", train="train.X1", test="val.X", classes=("n01",))
    folder(tmp_path / "data", train="train.X2", test="val.X", classes=("n02",))
    folder(tmp_path / "data", train="train.X2", test="val.X", classes=("ein Müller", "ein"))
    (tmp_path / "list.txt").write_text("n02\tsecond, with words\n\nein Müller\n")
    packed = pack(monkeypatch, tmp_path / "data", tmp_path / "p.h5", "--val-per-class", 1)
    assert json.loads(packed["classes"]) == ["ein", "ein Müller", "n01", "n02"]
    flags = "--val-per-class", 1, "--class-list", tmp_path / "list.txt"
    packed = pack(monkeypatch, tmp_path / "data", tmp_path / "q.h5", *flags)
    assert json.loads(packed["classes"]) == ["ein Müller", "n02"]


def test_resizing_is_antialiased_and_keeps_proportions(tmp_path, monkeypatch):
    root = folder(tmp_path / "data")
    stripes = np.zeros((64, 128, 3), np.uint8)
    # One-pixel stripes: any subsampling without antialiasing gives black or white.
    stripes[:, ::2] = 255
    Image.fromarray(stripes).save(root / "val" / "cat" / "val0.png")
    packed = pack(monkeypatch, root, tmp_path / "p.h5", "--val-per-class", 1)
    image = packed["images"][[name == b"val/cat/val0.png" for name in packed["from"]]][0]
    assert abs(image.astype(int) - 127).max() < 30


def cut(path, fraction=0.5):
    """Leaves the beginning of a file."""
    path.write_bytes(path.read_bytes()[: int(fraction * path.stat().st_size)])


def jpeg(path, size=(64, 48), **how):
    """A photograph-like JPEG."""
    Image.fromarray(np.random.default_rng(2).integers(0, 256, (*size[::-1], 3), np.uint8)).save(
        path, "JPEG", **how
    )
    return path


def flat(root):
    """Puts the images of all classes into one folder."""
    for path in list(root.glob("*/*")):
        path.rename(root / f"{path.parent.name}-{path.name}")
    for path in [path for path in root.iterdir() if path.is_dir()]:
        path.rmdir()


def bomb(path):
    """A PNG whose header asks for 20,000 x 20,000 pixels."""
    Image.new("1", (1, 1)).save(path)
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">II", 20_000, 20_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path.write_bytes(content)


@pytest.mark.parametrize(
    "break_it, message",
    [
        (
            lambda root: (root / "train/cat/bad.png").write_bytes(b"no image"),
            "bad.png: not a readable image",
        ),
        (
            lambda root: (root / "train/cat/bad.png").write_bytes(b""),
            "bad.png: not a readable image",
        ),
        (
            lambda root: cut(jpeg(root / "train/cat/bad.jpg")),
            "bad.jpg: not a readable image .*truncated",
        ),
        (
            lambda root: Image.fromarray(np.ones((9, 9), np.float32)).save(
                root / "val/cat/bad.tiff"
            ),
            r"bad.tiff: not a readable image \(mode F",
        ),
        (
            lambda root: Image.fromarray(np.ones((9, 9), np.int32)).save(root / "val/cat/bad.tiff"),
            r"bad.tiff: not a readable image \(mode I",
        ),
        (
            lambda root: bomb(root / "train/cat/bad.png"),
            "bad.png: not a readable image .*400000000 pixels",
        ),
        (
            lambda root: (root / "train/cat/bad.png").symlink_to("bad.png"),
            "bad.png: not a readable image",
        ),
        (
            lambda root: os.mkfifo(root / "train/cat/bad.png"),
            r"bad.png: not a readable image \(not a file",
        ),
        (
            lambda root: (root / "train/bird").symlink_to("bird"),
            "train/bird: a link that leads nowhere",
        ),
        (lambda root: (root / "val").rename(root / "other"), "needs train/CLASS"),
        (lambda root: [shutil.rmtree(path) for path in root.iterdir()], "needs train/CLASS"),
        (
            lambda root: [path.unlink() for path in (root / "train/cat").iterdir()],
            "class cat has 0 images to train on and 3 to test",
        ),
        (
            lambda root: [path.unlink() for path in (root / "val/cat").iterdir()],
            "class cat has 6 images to train on and 0 to test",
        ),
        (
            lambda root: shutil.rmtree(root / "val/cat"),
            "class cat has 6 images to train on and 0 to test",
        ),
        (
            lambda root: [
                shutil.rmtree(root / part / name)
                for part in ("train", "val")
                for name in ("cat", "dog")
            ],
            "1 class, and nothing to tell apart",
        ),
        (
            lambda root: flat(root / "train"),
            "train: has no folder in it; the names of its folders are the labels",
        ),
    ],
)
def test_bad_folders_are_one_clear_line(break_it, message, tmp_path, monkeypatch):
    root = folder(tmp_path / "data")
    break_it(root)
    # Who opens the pipe waits for ever, in a process of its own: SIGALRM would end the tests.
    signal.alarm(60)
    with pytest.raises(SystemExit, match=message) as stopped:
        pack(monkeypatch, root, tmp_path / "p.h5", "--val-per-class", 1)
    signal.alarm(0)
    assert "\n" not in str(stopped.value)
    assert not list(tmp_path.glob("*.h5*")) and not list(tmp_path.glob(".*"))


def test_links_are_followed_and_a_loop_ends(tmp_path, monkeypatch):
    root = folder(tmp_path / "data")
    (root / "train" / "dog").rename(tmp_path / "elsewhere")
    (root / "train" / "dog").symlink_to(tmp_path / "elsewhere")
    (root / "train" / "cat" / "loop").symlink_to("../..")
    packed = pack(monkeypatch, root, tmp_path / "p.h5", "--val-per-class", 1)
    assert np.bincount(packed["labels"]).tolist() == [9, 9, 9]


EXIF = Image.Exif()
EXIF[0x0112] = 6  # to be turned by 90 degrees
# Dark above, bright below.
RAMP = np.repeat(np.linspace(0, 65535, 32).astype(np.uint16)[:, None], 32, 1)
RGB = np.stack([(RAMP // 257).astype(np.uint8)] * 3, 2)
# Its right half is not seen.
ALPHA = np.where(np.arange(32) < 16, 255, 0)[None].repeat(32, 0).astype(np.uint8)
GLASS = Image.fromarray(np.dstack([RGB, ALPHA]))


@pytest.mark.parametrize(
    "name, image, how",
    [
        ("x.png", Image.fromarray(RGB), {}),
        ("x.gif", Image.fromarray(RGB).quantize(), {}),
        ("x.png", Image.fromarray(RAMP), {}),
        ("x.tiff", Image.fromarray(RAMP), {}),
        ("x.jpg", Image.fromarray(RGB).convert("CMYK"), {"quality": 95}),
        ("x.png", Image.fromarray(RGB).quantize(), {}),
        (
            "x.gif",
            Image.fromarray(RGB),
            {"save_all": True, "append_images": [Image.new("RGB", (32, 32), "red")] * 3},
        ),
        ("x.jpg", Image.fromarray(np.rot90(RGB)), {"quality": 95, "exif": EXIF}),
        ("x.png", GLASS, {}),
        ("x.png", GLASS.convert("LA"), {}),
        ("x y \u00fc\u4e2d.png", Image.fromarray(RGB), {}),
        (os.fsdecode(b"\xff\xfe.png"), Image.fromarray(RGB), {}),
    ],
)
def test_a_picture_is_what_a_viewer_shows(name, image, how, tmp_path, monkeypatch):
    root = folder(tmp_path / "a b\u00e9", classes=("cat", "großer Hund"))
    image.save(root / "val" / "großer Hund" / name, **how)
    packed = pack(monkeypatch, root, tmp_path / "p.h5", "--val-per-class", 1, "--image-size", 32)
    endings = "x.png", "x.gif", "x.tiff", "x.jpg", "中.png", r"\udcff\udcfe.png"
    (index,) = [k for k, text in enumerate(packed["from"]) if text.decode().endswith(endings)]
    picture = packed["images"][index].astype(int)
    assert json.loads(packed["classes"])[packed["labels"][index]] == "großer Hund"
    left = picture[:, :14] if image.mode in ("RGBA", "LA") else picture
    assert abs(left - RGB[:, : left.shape[1]]).max() <= 12  # JPEG, and a GIF's palette
    if image.mode in ("RGBA", "LA"):
        assert picture[:, 18:].min() == 255


def test_a_name_that_is_no_text_can_be_told(tmp_path, monkeypatch):
    root = folder(tmp_path / "data")
    (root / "val/cat" / os.fsdecode(b"\xff.png")).write_bytes(b"no image")
    with pytest.raises(SystemExit, match="not a readable image") as stopped:
        pack(monkeypatch, root, tmp_path / "p.h5", "--val-per-class", 1)
    assert str(stopped.value).encode().startswith(str(root).encode())


def test_images_that_stand_twice_are_counted_with_names(tmp_path, monkeypatch, capsys):
    root = folder(tmp_path / "data")
    packed = pack(monkeypatch, root, tmp_path / "p.h5", "--val-per-class", 1)
    assert packed["duplicates"] == 0 and "pixel by pixel" not in capsys.readouterr().out
    # Leaked, its label right, and leaked, its label wrong.
    shutil.copy(root / "train/cat/train0.png", root / "val/cat/val1.png")
    shutil.copy(root / "train/dog/train1.png", root / "val/a ship/val2.png")
    packed = pack(monkeypatch, root, tmp_path / "q.h5", "--val-per-class", 1)
    said = capsys.readouterr().out
    assert (
        "2 of 9 test images are also in train or val, pixel by pixel "
        "(the first: val/a ship/val2.png = train/dog/train1.png)"
    ) in said
    assert "2 images also have another label, pixel by pixel (the first: " in said
    assert (packed["duplicates"], packed["conflicting"]) == (2, 2)


def test_a_class_that_only_test_has_is_said(tmp_path, monkeypatch, capsys):
    root = folder(tmp_path / "data")
    shutil.rmtree(root / "train/cat")
    packed = pack(monkeypatch, root, tmp_path / "p.h5", "--val-per-class", 1)
    assert json.loads(packed["classes"]) == ["a ship", "dog"]
    assert "left out: 1 classes that only val/ has (the first: cat)" in capsys.readouterr().out


def test_broken_images_can_be_skipped_and_are_counted(tmp_path, monkeypatch, capsys):
    root = folder(tmp_path / "data")
    (root / "train" / "cat" / "bad.png").write_bytes(b"no image")
    packed = pack(monkeypatch, root, tmp_path / "p.h5", "--val-per-class", 1, "--skip-broken")
    assert "1 unreadable images left out" in capsys.readouterr().out
    assert len(packed["images"]) == len(packed["labels"]) == 27


def test_a_class_that_skipping_empties_is_named(tmp_path, monkeypatch):
    root = folder(tmp_path / "data")
    for path in (root / "val" / "dog").iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(SystemExit, match="class dog has no readable image left for test"):
        pack(monkeypatch, root, tmp_path / "p.h5", "--val-per-class", 1, "--skip-broken")
    assert not list(tmp_path.glob("*.h5*"))


@pytest.fixture
def cifar10(tmp_path, monkeypatch):
    """A small archive of CIFAR-10's layout, where the real one would be downloaded from.

    Image i is i everywhere, 100 more in test, its red 1 more; its label is its last digit.
    """

    def rows(first, count, more):
        numbers = np.arange(first, first + count, dtype=np.uint8)
        images = np.broadcast_to(numbers[:, None, None, None] + more, (count, 3, 32, 32)).copy()
        images[:, 0] += 1
        rows = np.column_stack([numbers % 10, images.reshape(count, -1)])
        return rows.astype(np.uint8).tobytes()

    contents = {f"data_batch_{k}.bin": rows(10 * k - 10, 10, 0) for k in range(1, 6)}
    contents["test_batch.bin"] = rows(0, 20, 100)
    contents["batches.meta.txt"] = "\n".join([f"c{k}" for k in range(10)] + [""]).encode()
    with tarfile.open(tmp_path / "there.tar.gz", "w:gz") as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    archive = (tmp_path / "there.tar.gz").read_bytes()
    monkeypatch.setattr(sources, "CIFAR10_URL", (tmp_path / "there.tar.gz").as_uri())
    monkeypatch.setattr(sources, "CIFAR10_MD5", hashlib.md5(archive).hexdigest())
    return tmp_path / "data" / "there.tar.gz"


def test_cifar_10_is_downloaded_once_and_read_without_a_pickle(cifar10, tmp_path, monkeypatch):
    for name in "p.h5", "q.h5":
        source = f"cifar10:{cifar10.parent}"
        packed = pack(monkeypatch, source, tmp_path / name, "--val-per-class", 2)
        assert np.bincount(packed["split"]).tolist() == [30, 20, 20]
        assert json.loads(packed["classes"])[3] == "c3"
        for image, label, split, text in zip(
            packed["images"], packed["labels"], packed["split"], packed["from"]
        ):
            number = int(text.split(b"/")[1])
            grey = number + 100 * (split == 2)
            assert (image == [grey + 1, grey, grey]).all() and label == number % 10
        (tmp_path / "there.tar.gz").unlink(missing_ok=True)  # the second time there is no network
    assert [path.name for path in cifar10.parent.iterdir()] == ["there.tar.gz"]


def test_cifar_10_with_a_wrong_checksum_is_named(cifar10, tmp_path, monkeypatch):
    pack(monkeypatch, f"cifar10:{cifar10.parent}", tmp_path / "p.h5", "--val-per-class", 2)
    cut(cifar10, 0.9)
    with pytest.raises(
        SystemExit, match="there.tar.gz: wrong checksum; move it away, and it is downloaded again"
    ):
        pack(monkeypatch, f"cifar10:{cifar10.parent}", tmp_path / "q.h5")


def test_cifar_10_that_cannot_be_had_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "CIFAR10_URL", (tmp_path / "none.tar.gz").as_uri())
    with pytest.raises(SystemExit, match="not there and cannot be downloaded"):
        pack(monkeypatch, f"cifar10:{tmp_path}/data", tmp_path / "p.h5")


@pytest.mark.parametrize(
    "source, message",
    [("glyphs:runes", "glyphs:runes"), ("/no/such/folder", "/no/such/folder: no such folder")],
)
def test_a_wrong_source_is_named(source, message, tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match=message):
        pack(monkeypatch, source, tmp_path / "p.h5")
