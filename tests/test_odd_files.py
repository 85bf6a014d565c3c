"""People's pictures and folders: what is odd in them is shown as a viewer shows it, or told."""

import json
import shutil
import struct
import subprocess
import sys
import unicodedata
import zlib

import numpy as np
import pytest
from conftest import ROOT, run
from PIL import Image
from test_prepare import RAMP, RGB, folder, jpeg, pack

from common.images import prepare

# Pillow warns of what it drops.
pytestmark = pytest.mark.filterwarnings("ignore")


def shown(path, size=8):
    """The packed pixels of a file, (size, size, 3)."""
    picture = prepare.picture(str(path), size)
    assert not isinstance(picture, str), picture
    return picture


def refused(path):
    """The line that says why a file is none."""
    line = prepare.picture(str(path), 8)
    assert isinstance(line, str) and line.startswith(f"{path}: ") and "\n" not in line, line
    return line


def exif(*entries):
    """An Exif segment of entries (tag, type, count, value or where it stands) and of -1/0."""
    start = 8 + 2 + 12 * len(entries) + 4
    return (
        b"Exif\0\0II*\0\x08\0\0\0"
        + struct.pack("<H", len(entries))
        + b"".join(
            struct.pack("<HHII", tag, kind, count, start if value is None else value)
            for tag, kind, count, value in entries
        )
        + bytes(4)
        + struct.pack("<ii", -1, 0)
    )


SIGNED, ORIENTATION = 10, (274, 3, 1, 6)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    "odd",
    [
        [],
        [(282, SIGNED, 1, None)],  # a resolution of -1/0
        [(282, 5, 1, 2**31)],  # beyond the end
        [(270, 99, 7, 7)],  # of a type that there is not
        [(41988, 2, 10**9, 0)],  # a text of a gigabyte
    ],
)
def test_odd_metadata_do_not_hide_a_sound_picture(odd, kind, tmp_path):
    """It is turned by the orientation that can be read."""
    picture = Image.fromarray(np.rot90(RGB))
    how = {"lossless": True} if kind == "WEBP" else {"quality": 95}
    how["exif"] = exif(ORIENTATION, *odd)
    picture.save(tmp_path / "x", kind, **how)
    assert abs(shown(tmp_path / "x", 32).astype(int) - RGB).max() <= 12


def chunk(kind, body, sound=True):
    check = zlib.crc32(kind + body) if sound else 0
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", check)


def png(path, rows, bits=8, colour=0, extra=b""):
    """A PNG of rows (bytes each), with chunks before its pixels."""
    width = 8 * len(rows[0]) // bits // {0: 1, 2: 3}[colour]
    head = struct.pack(">IIBBBBB", width, len(rows), bits, colour, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + extra
        + chunk(b"IDAT", data)
        + chunk(b"IEND", b"")
    )
    return path


@pytest.mark.parametrize(
    "extra",
    [
        chunk(b"tEXt", b"a\0text", sound=False),
        chunk(b"pHYs", b"x"),
        chunk(b"iCCP", b""),
        chunk(b"eXIf", b"II", sound=False),
        chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(3_000_000))),
    ],
)
def test_a_png_is_no_worse_for_its_metadata(extra, tmp_path):
    path = png(tmp_path / "x.png", [b"\x55" * 8] * 8, extra=extra)
    assert (shown(path) == 0x55).all()
    turned = np.zeros((8, 8), np.uint8)
    turned[:, :4] = 255  # the left; upright, above
    orientation = chunk(b"eXIf", exif(ORIENTATION)[6:])
    png(path, [row.tobytes() for row in turned], extra=extra + orientation)
    assert (shown(path)[:4] == 255).all() and (shown(path)[4:] == 0).all()
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"IDAT") + 6])  # its pixels are damaged: named
    refused(path)


@pytest.mark.parametrize(
    "segment", [b"\xff\xe0\0\x08JFIF\0\1", b"\xff\xee\0\x07Adobe", b"\xff\xe2\0\x08MPF\0\0\0"]
)
def test_a_jpeg_is_no_worse_for_its_metadata(segment, tmp_path):
    jpeg(tmp_path / "x.jpg", exif=exif(ORIENTATION))
    before, content = shown(tmp_path / "x.jpg"), (tmp_path / "x.jpg").read_bytes()
    (tmp_path / "x.jpg").write_bytes(content[:2] + segment + content[2:])
    assert (shown(tmp_path / "x.jpg") == before).all()
    (tmp_path / "x.jpg").write_bytes(content[:2] + segment + content[2 : len(content) // 2])
    assert "truncated" in refused(tmp_path / "x.jpg")


def tiff(path, values, *changes):
    """A TIFF of grey values, written by hand, with other values of its tags."""
    height, width = values.shape
    bits = values.dtype.itemsize * 8
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: 1, 277: 1, 278: height}
    tags |= {279: values.nbytes} | dict(changes)
    tags[273] = 8 + 2 + 12 * (len(tags) + 1) + 4
    entries = [struct.pack("<HHII", tag, 4, 1, tags[tag]) for tag in sorted(tags)]
    head = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags))
    path.write_bytes(head + b"".join(entries) + bytes(4) + values.tobytes())
    return path


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_tiff_whose_white_is_zero_is_no_negative(kind, tmp_path):
    values = (RAMP // (257 if kind == np.uint8 else 1)).astype(kind)
    assert abs(shown(tiff(tmp_path / "x.tif", values), 32).astype(int) - RGB).max() <= 1
    path = tiff(tmp_path / "x.tif", np.iinfo(kind).max - values, (262, 0))
    assert abs(shown(path, 32).astype(int) - RGB).max() <= 1


def test_an_odd_tag_of_a_tiff_does_not_hide_it(tmp_path):
    path = tiff(tmp_path / "x.tif", np.rot90(RAMP).copy(), (274, 6), (282, 2**31))
    assert abs(shown(path, 32).astype(int) - RGB).max() <= 1


@pytest.mark.parametrize("kind", ["TIFF", "AVIF"])
def test_other_kinds_are_turned_once(kind, tmp_path):
    turned = Image.Exif()
    turned[274] = 6
    Image.fromarray(np.rot90(RGB)).save(tmp_path / "x", kind, exif=turned, quality=95)
    assert abs(shown(tmp_path / "x", 32).astype(int) - RGB).max() <= 12


def test_signed_values_are_refused(tmp_path):
    assert "signed" in refused(tiff(tmp_path / "x.tif", np.zeros((8, 8), np.uint8), (339, 2)))
    assert "range" in refused(tiff(tmp_path / "y.tif", np.zeros((8, 8), np.uint16), (339, 2)))


def test_12_bits_are_not_nearly_black(tmp_path):
    packed = np.full((8, 12), 255, np.uint8)  # 8 values of 12 bits a row, all white
    path = tiff(tmp_path / "x.tif", packed, (256, 8), (258, 12))
    assert (shown(path) == 255).all()


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_the_transparent_grey_of_a_png_is_white(bits, tmp_path):
    """The left half is; the right half is black, unless there is but one bit."""
    value = 2**bits // 3
    row = sum((value if k < 4 else 0) << bits * (7 - k) for k in range(8)).to_bytes(bits, "big")
    path = png(tmp_path / "x.png", [row] * 8, bits)
    opaque = shown(path)
    path = png(path, [row] * 8, bits, extra=chunk(b"tRNS", struct.pack(">H", value)))
    assert (shown(path)[:, :4] == 255).all() and not (opaque[:, :4] == 255).all()
    assert bits == 1 or (shown(path)[:, 4:] == 0).all()


def test_a_transparent_colour_of_16_bits_is_refused(tmp_path):
    row = struct.pack(">HHH", 0x5501, 0x5502, 0x5503) * 8
    trns = chunk(b"tRNS", struct.pack(">HHH", 0x5501, 0x5502, 0x5503))
    assert (shown(png(tmp_path / "x.png", [row] * 8, 16, 2)) == 0x55).all()
    assert "transparent" in refused(png(tmp_path / "x.png", [row] * 8, 16, 2, trns))


@pytest.mark.parametrize("top", [200, 1000, 65535])
def test_a_pgm_of_any_depth(top, tmp_path):
    value = struct.pack(">H", top // 2) if top > 255 else bytes([top // 2])
    (tmp_path / "x.pgm").write_bytes(b"P5 8 8 %d\n" % top + value * 64)
    assert abs(shown(tmp_path / "x.pgm").astype(int) - 127).max() <= 1


def test_a_link_to_nothing_is_said_to_be_one(tmp_path):
    (tmp_path / "x.png").symlink_to("nothing.png")
    assert "(a link that leads nowhere)" in refused(tmp_path / "x.png")


JUNK = [
    ".ipynb_checkpoints",
    ".git",
    ".@__thumb",
    ".Trash-1000",
    "__MACOSX",
    "@eaDir",
    "#recycle",
    "lost+found",
    "$RECYCLE.BIN",
    "System Volume Information",
    "__pycache__",
]


@pytest.mark.parametrize("name", JUNK)
def test_folders_of_the_system_are_no_classes(name, tmp_path, monkeypatch, capsys):
    """With pictures in them or without, in train, test or both; also where classes are drawn."""
    root = folder(tmp_path / "data")
    flags = "--val-per-class", 1, "--classes", 2
    before = pack(monkeypatch, root, tmp_path / "p.h5", *flags)
    assert "left out" not in capsys.readouterr().out
    shutil.copytree(root / "train" / "cat", root / "train" / name)
    (root / "val" / name).mkdir()
    (root / name).mkdir()
    after = pack(monkeypatch, root, tmp_path / "p.h5", *flags)
    assert before["fingerprint"] == after["fingerprint"]
    said = capsys.readouterr().out
    for part in "train", "val":
        first = f"left out: 1 hidden or system entries in {part}/ (the first: {part}/{name})\n"
        assert first in said


def test_a_folder_without_a_picture_is_no_class(tmp_path, monkeypatch, capsys):
    root = folder(tmp_path / "data")
    (root / "train" / "labels").mkdir()
    (root / "train" / "labels" / "cat.xml").touch()
    packed = pack(monkeypatch, root, tmp_path / "p.h5", "--val-per-class", 1)
    assert json.loads(packed["classes"]) == ["a ship", "cat", "dog"]
    said = capsys.readouterr().out
    assert "left out: 1 folders of train/ without a picture (the first: labels)\n" in said


def test_hidden_files_beside_pictures_are_none(tmp_path, monkeypatch, capsys):
    """macOS puts ._x.jpg beside each x.jpg: none is drawn."""
    root = folder(tmp_path / "data")
    flags = "--val-per-class", 1, "--train-per-class", 2, "--test-per-class", 1
    before = pack(monkeypatch, root, tmp_path / "p.h5", *flags)
    capsys.readouterr()
    for path in list(root.rglob("*.png")):
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7" + bytes(90))
    (root / "train/cat/.#train0.png").symlink_to("nobody@nowhere")  # an editor's lock
    (root / "train/.DS_Store").touch()
    assert (
        before["fingerprint"] == pack(monkeypatch, root, tmp_path / "p.h5", *flags)["fingerprint"]
    )
    said = capsys.readouterr().out
    assert "left out: 19 hidden or system files in train/CLASS/ (the first: train/a ship/._" in said
    assert "left out: 1 hidden or system entries in train/ (the first: train/.DS_Store)" in said


@pytest.mark.parametrize(
    "suffix, kind",
    [
        *((suffix, "JPEG") for suffix in (".jfif", ".jpe", ".JPG")),
        *((".avif", "AVIF"), (".jp2", "JPEG2000"), (".pgm", "PPM"), (".tga", "TGA")),
    ],
)
def test_every_kind_of_picture_that_pillow_reads_is_seen(suffix, kind, tmp_path, monkeypatch):
    root = folder(tmp_path / "data")
    Image.new("L", (9, 9)).save(root / f"val/cat/x{suffix}", kind)
    packed = pack(monkeypatch, root, tmp_path / "p.h5", "--val-per-class", 1)
    assert f"val/cat/x{suffix}".encode() in packed["from"].tolist()


def test_no_file_vanishes_without_a_line(tmp_path, monkeypatch, capsys):
    root = folder(tmp_path / "data")
    folder(tmp_path / "data", test="test")
    for name in "train/cat/x.heic", "train/dog/Thumbs.db", "test/dog/notes.txt", "train/list.txt":
        (root / name).write_bytes(b"x")
    shutil.copytree(root / "train/cat", root / "train/cat/more")
    pack(monkeypatch, root, tmp_path / "p.h5", "--val-per-class", 1)
    said = capsys.readouterr().out
    for line in (
        "1 files of other kinds in train/CLASS/ (the first: train/cat/x.heic)",
        "1 hidden or system files in train/CLASS/ (the first: train/dog/Thumbs.db)",
        "1 files of other kinds in test/CLASS/ (the first: test/dog/notes.txt)",
        "1 files in train/ that lie in no class's folder (the first: train/list.txt)",
        "1 folders in train/CLASS/ (the first: train/cat/more)",
        "1 folders beside those (the first: val)",
    ):
        assert f"{root}: left out: {line}\n" in said


def test_another_takes_the_place_of_a_broken_picture(tmp_path, monkeypatch, capsys):
    root = folder(tmp_path / "data", images=30)
    flags = "--val-per-class", 2, "--train-per-class", 4, "--test-per-class", 1, "--skip-broken"
    before = pack(monkeypatch, root, tmp_path / "p.h5", *flags)
    names = [text.decode() for text in before["from"]]
    broken = [name for name in names if name.startswith(("train/cat", "val/dog"))][:-2]
    for name in broken:
        (root / name).write_bytes(b"no image")
    capsys.readouterr()
    after = pack(monkeypatch, root, tmp_path / "p.h5", *flags)
    for split in range(3):
        for pack_of in before, after:
            numbers = np.bincount(pack_of["labels"][pack_of["split"] == split])
            assert numbers.tolist() == [(4, 2, 1)[split]] * 3
    kept = {text.decode() for text in after["from"]}
    assert not kept & set(broken)
    assert {name for name in names if name.startswith("train/dog")} <= kept
    said = capsys.readouterr().out
    assert f"{len(broken)} unreadable images left out, the first: {root}/train/cat/" in said
    assert "short" not in said


def test_where_no_other_is_left_the_shortfall_is_said(tmp_path, monkeypatch, capsys):
    root = folder(tmp_path / "data")
    for index in range(3):
        (root / f"train/dog/train{index}.png").write_bytes(b"no image")
    flags = "--val-per-class", 2, "--train-per-class", 3, "--skip-broken"
    packed = pack(monkeypatch, root, tmp_path / "p.h5", *flags)
    assert np.bincount(packed["labels"][packed["split"] == 0]).tolist() == [3, 3, 1]
    assert np.bincount(packed["labels"][packed["split"] == 1]).tolist() == [2, 2, 2]
    said = capsys.readouterr().out
    assert (
        "1 parts are short of readable images (the first: class dog has 1 of 3 for train)" in said
    )


TIGERS = "tiger", "tiger_shark", "lion"


@pytest.mark.parametrize(
    "text, message",
    [
        ("tiger\ntiger shark\nlion\n", r"line 2, 'tiger shark': .* has no folder of that name"),
        ("tiger shark\nlion\n", "line 1, 'tiger shark'"),
        ("tiger\nlion\ntiger\n", "line 3, 'tiger': the class stands in line 1 already"),
        ("lion\nbear\n", "line 2, 'bear'"),
        ("\n", "0 class, and nothing to tell apart"),
    ],
)
def test_a_line_of_the_class_list_that_is_no_class_is_named(text, message, tmp_path, monkeypatch):
    root = folder(tmp_path / "data", classes=TIGERS)
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(SystemExit, match=message) as stopped:
        flags = "--val-per-class", 1, "--class-list", tmp_path / "list.txt"
        pack(monkeypatch, root, tmp_path / "p.h5", *flags)
    assert str(stopped.value).startswith(f"{tmp_path}/list.txt: ")
    assert "\n" not in str(stopped.value)


@pytest.mark.parametrize(
    "content",
    [
        "\ufefftiger\nlion\n".encode(),
        "\ufefftiger\r\nlion\r\n".encode("utf-16-le"),
        "\ufefftiger\nlion".encode("utf-16-be"),
        b"tiger 0\nlion 1\n",
        b"  tiger\ta striped cat\n\nlion\t\n",
    ],
)
def test_class_lists_as_programs_write_them(content, tmp_path, monkeypatch):
    root = folder(tmp_path / "data", classes=TIGERS)
    (tmp_path / "list.txt").write_bytes(content)
    flags = "--val-per-class", 1, "--class-list", tmp_path / "list.txt"
    packed = pack(monkeypatch, root, tmp_path / "p.h5", *flags)
    assert json.loads(packed["classes"]) == ["lion", "tiger"]


def test_a_class_list_of_a_mac_and_one_of_synsets(tmp_path, monkeypatch):
    accented = unicodedata.normalize("NFD", "ünlü")
    root = folder(tmp_path / "data", classes=(accented, "n01440764", "tench"))
    (tmp_path / "list.txt").write_text("n01440764 tench, Tinca tinca\nünlü\n")
    flags = "--val-per-class", 1, "--class-list", tmp_path / "list.txt"
    packed = pack(monkeypatch, root, tmp_path / "p.h5", *flags)
    assert json.loads(packed["classes"]) == ["n01440764", accented]


def test_classes_that_are_left_out_are_not_drawn(tmp_path, monkeypatch):
    """A second study on other classes of the same folder."""
    root = folder(tmp_path / "data", classes=[*TIGERS, "bear", "wolf", "lynx"])
    flags = "--val-per-class", 1, "--classes", 3, "--seed"
    first = json.loads(pack(monkeypatch, root, tmp_path / "p.h5", *flags, 1)["classes"])
    (tmp_path / "first.txt").write_text("\n".join(first))
    flags = *flags, 2, "--leave-out", tmp_path / "first.txt"
    second = json.loads(pack(monkeypatch, root, tmp_path / "q.h5", *flags)["classes"])
    assert len(first) == len(second) == 3 and not set(first) & set(second)
    rest = sorted({*TIGERS, "bear", "wolf", "lynx"} - set(first))
    flags = "--val-per-class", 1, "--leave-out", tmp_path / "first.txt"
    assert json.loads(pack(monkeypatch, root, tmp_path / "r.h5", *flags)["classes"]) == rest


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--classes", 2], "data: has 1 classes that .*first.txt does not leave out, --classes"),
        (["--class-list", "first.txt"], "first.txt: leaves out lion, which .*first.txt lists"),
        (["--leave-out", "none.txt"], "none.txt: line 1, 'unicorn': .* has no folder"),
    ],
)
def test_classes_that_cannot_be_left_out_are_named(flags, message, tmp_path, monkeypatch):
    root = folder(tmp_path / "data", classes=TIGERS)
    (tmp_path / "first.txt").write_text("\n".join(TIGERS[1:]))
    (tmp_path / "none.txt").write_text("unicorn\n")
    flags = [tmp_path / flag if str(flag).endswith(".txt") else flag for flag in flags]
    with pytest.raises(SystemExit, match=message):
        flags = "--val-per-class", 1, "--leave-out", tmp_path / "first.txt", *flags
        pack(monkeypatch, root, tmp_path / "p.h5", *flags)


@pytest.mark.parametrize("where", ["test/1.png", "test/images/1.png"])
def test_where_test_is_not_sorted_val_is_the_test(where, tmp_path, monkeypatch, capsys):
    """ImageNet and Tiny-ImageNet come so."""
    root = folder(tmp_path / "data")
    (root / where).parent.mkdir(parents=True)
    Image.new("RGB", (9, 9)).save(root / where)
    packed = pack(monkeypatch, root, tmp_path / "p.h5", "--val-per-class", 1)
    assert np.bincount(packed["split"]).tolist() == [15, 3, 9]
    found = "0 folders and 1" if where == "test/1.png" else "1 folders (images) and 0"
    assert (
        f"test/ is left out, has no picture in a folder of a class: {found} files beside them; "
        "val/ is the test\n" in capsys.readouterr().out
    )


def deeper(root, part):
    """Puts the pictures of each class one folder deeper, as Tiny-ImageNet has them."""
    for path in list((root / part).iterdir()):
        path.rename(root / "moved")
        path.mkdir()
        (root / "moved").rename(path / "images")


def flat_test(root):
    """Puts all pictures of val beside each other."""
    for path in list((root / "val").glob("*/*")):
        path.rename(root / "val" / f"{path.parent.name}-{path.name}")
    for path in list((root / "val").iterdir()):
        if path.is_dir():
            path.rmdir()


@pytest.mark.parametrize(
    "break_it, message",
    [
        (
            lambda root: deeper(root, "train"),
            r"class a ship has 0 images to train on and 3 to test; 2 and 1 are needed \(to train: "
            r"train/; to test: val/\); pictures lie one folder deeper, in .*/train/a ship/images",
        ),
        (lambda root: deeper(root, "val"), "one folder deeper, in .*/val/a ship/images: move them"),
        (
            flat_test,
            "data/val: has no picture in a folder of a class: 0 folders and 9 files beside them; "
            "sort its pictures into folders that are named as those of train/",
        ),
        (lambda root: root.rename(root.parent / "x"), "data: no such folder"),
        (lambda root: (root / "train").rename(root / "Train"), "found: Train, val"),
    ],
)
def test_a_folder_that_will_not_do_says_what_was_found(break_it, message, tmp_path, monkeypatch):
    root = folder(tmp_path / "data")
    break_it(root)
    with pytest.raises(SystemExit, match=message) as stopped:
        pack(monkeypatch, root, tmp_path / "p.h5", "--val-per-class", 1)
    assert "\n" not in str(stopped.value)


@pytest.mark.parametrize("out", [".", "/", "", "..", "/tmp"])
@pytest.mark.parametrize(
    "script", ["common.images.prepare", "eval.battery", "eval.line", "finetune.full"]
)
def test_out_that_is_no_file_is_one_line(script, out, monkeypatch, capsys):
    needed = {
        "common.images.prepare": ["glyphs:digits"],
        "eval.battery": ["--data", "x", "--minimum", "y", "clean"],
        "eval.line": ["--data", "x", "--minima", "a", "b"],
        "finetune.full": ["--data", "x", "--minimum", "y"],
    }[script]
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, script, *needed, "--out", out)
    said = capsys.readouterr().err
    assert stopped.value.code == 2 and said.count("\n") == 1
    assert (f"--out: {out} is a folder; name a file" if out else "--out: is empty") in said


@pytest.mark.slow
def test_a_broken_picture_among_many_is_one_line(tmp_path):
    """What the workers were given beside it ends without a word."""
    root = folder(tmp_path / "data", images=200)
    (root / "train/a ship/train0.png").write_bytes(b"no image")
    flags = "--val-per-class", "1", "--image-size", "16", "--workers", "2"
    script = [sys.executable, "-m", "common.images.prepare", root, "--out", tmp_path / "p.h5"]
    tried = subprocess.run([*script, *flags], cwd=ROOT, capture_output=True, text=True)
    assert tried.returncode == 1 and tried.stdout == ""
    assert tried.stderr.count("\n") == 1, tried.stderr
    assert "train0.png: not a readable image" in tried.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
