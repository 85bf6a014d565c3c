"""People's pictures and folders: what is odd in them is shown as a viewer shows it, or told."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from test_prepare import RAMP, RGB, jpeg

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
