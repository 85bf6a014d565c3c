"""A picture file as a viewer shows it: RGB, 8 bits, upright, on white; a square of it.

What is damaged in a file's metadata, and not in its pixels, changes nothing.
"""

import io
import os
import zlib
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

TURN = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
PNG = b"\x89PNG\r\n\x1a\n"
PHOTOMETRIC, SAMPLE_FORMAT, BITS = 262, 339, 258  # tags of TIFF


@cache
def suffixes() -> set[str]:
    """How the names of picture files end (".jpg"): all kinds that Pillow reads by itself."""
    Image.init()
    # Stubs, which need another library, and what needs Ghostscript or Windows.
    no_pictures = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
    kinds = set(Image.OPEN) - no_pictures
    return {suffix for suffix, kind in Image.registered_extensions().items() if kind in kinds}


def read(path: str, size: int) -> np.ndarray:
    """uint8 (size, size, 3) of a file; raises nearly anything, as Pillow does, if it is damaged."""
    if not os.path.exists(path):
        raise ValueError("a link that leads nowhere" if os.path.islink(path) else "no such file")
    if not os.path.isfile(path):  # opening a pipe would wait for ever
        raise ValueError("not a file")
    try:
        return square(path, size)
    except Image.DecompressionBombError:
        raise
    except Exception as error:
        content = Path(path).read_bytes()
        bare = without_metadata(content)
        if bare == content:
            raise
        try:
            return square(io.BytesIO(bare), size)
        except UnidentifiedImageError:
            raise error from None


def square(file: str | io.BytesIO, size: int) -> np.ndarray:
    """The middle of an image file: uint8 (size, size, 3)."""
    with Image.open(file) as image:
        return crop_and_resize(as_viewed(image), size)


def crop_and_resize(image: Image.Image, size: int) -> np.ndarray:
    """The largest square in the middle, antialiased: uint8 (size, size, 3)."""
    side = min(image.size)
    left, top = ((length - side) / 2 for length in image.size)
    box = left, top, left + side, top + side
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box))


def as_viewed(image: Image.Image) -> Image.Image:
    """A picture as a viewer shows it: mode "RGB", upright, on white."""
    stored = image.tile[0].args if image.tile else ""  # as Pillow names it: "L;4"
    stored = stored if isinstance(stored, str) else stored[0]
    image.load()  # a PNG's EXIF may stand behind its pixels; TIFF is turned by Pillow
    turn = None
    with suppress(Exception):  # damaged metadata turn nothing
        turn = TURN.get(image.getexif().get(ExifTags.Base.Orientation))
    image = on_white(deep_to_8_bits(image), stored)
    return image if turn is None else image.transpose(turn)


def deep_to_8_bits(image: Image.Image) -> Image.Image:
    """16 bits of grey as 8, the transparent one white; ValueError where their range is unknown."""
    tags = image.tag_v2 if image.format == "TIFF" else {}
    sixteen = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")
    if image.mode in ("I", "F") and not sixteen:
        raise ValueError(f"mode {image.mode}: the range of its values is unknown")
    if set(tags.get(SAMPLE_FORMAT, (1,))) != {1}:
        raise ValueError("signed values: what is black is unknown")
    if not sixteen:
        return image
    bits = tags.get(BITS, (16,))[0]
    # Pillow's own conversion clips them.
    values = np.asarray(image).astype(np.float64) * (65535 / (2**bits - 1))
    if tags.get(PHOTOMETRIC) == 0:  # white is zero; Pillow inverts 8 bits, not 16
        values = 65535 - values
    if "transparency" in image.info:
        values[np.asarray(image) == image.info["transparency"]] = 65535
    return Image.fromarray(np.round(values / 257).astype(np.uint8))


def on_white(image: Image.Image, stored: str) -> Image.Image:
    """Mode "RGB", what is transparent as white. `stored`: the bits of the file, as Pillow says."""
    if image.has_transparency_data:
        if stored.startswith("RGB;16") and "transparency" in image.info:
            raise ValueError("a transparent colour of 16 bits: of 8 bits too many would be it")
        if stored in ("L;2", "L;4"):  # Pillow leaves it at 2 or 4 bits
            image.info["transparency"] *= 255 // (2 ** int(stored[-1]) - 1)
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image.convert("RGB")


def without_metadata(content: bytes) -> bytes:
    """A PNG or JPEG file with nothing in it but what its pixels and its EXIF need."""
    if content.startswith(PNG):
        return PNG + b"".join(_png_chunks(content))
    if content.startswith(b"\xff\xd8"):
        return b"\xff\xd8" + b"".join(_jpeg_segments(content))
    return content


def _png_chunks(content: bytes):
    """Chunks that PNG calls critical, and sound ones of transparency and EXIF."""
    start = len(PNG)
    while start < len(content):
        end = start + 12 + int.from_bytes(content[start : start + 4], "big")
        kind, body = content[start + 4 : start + 8], content[start + 4 : end - 4]
        sound = zlib.crc32(body) == int.from_bytes(content[end - 4 : end], "big")
        if kind[:1].isupper() or (kind in (b"tRNS", b"eXIf") and sound):
            yield content[start:end]
        start = end


def _jpeg_segments(content: bytes):
    """All segments but comments and applications', of which EXIF and a whole Adobe stay."""
    start = 2
    while content[start : start + 1] == b"\xff" and content[start + 1] != 0xDA:  # the pixels
        end = start + 2 + int.from_bytes(content[start + 2 : start + 4], "big")
        marker, body = content[start + 1], content[start + 4 : end]
        exif = marker == 0xE1 and body.startswith(b"Exif\0\0")
        adobe = marker == 0xEE and body.startswith(b"Adobe") and len(body) >= 12
        if exif or adobe or not (0xE0 <= marker <= 0xEF or marker == 0xFE):
            yield content[start:end]
        start = end
    yield content[start:]
