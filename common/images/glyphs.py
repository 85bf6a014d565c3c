"""Built-in images: Latin and Greek letters (pretraining) and digits (finetuning), drawn in
matplotlib's own fonts.

Nothing is downloaded. An image is a pure function of (seed, split, character, index), so the number
of images a class can change without changing any of the images that stay.
"""

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

# Greek letters that no Latin capital resembles: no Α, Β, Ε, ..., nor the small forms
# ι κ ν ο ρ τ υ χ, which differ from I K V O P T Y X by little more than size.
# Where both cases appear (Γγ, Δδ, Λλ, Ξξ, Ππ, Σσ, Φφ, Ωω) the shapes differ.
LETTERS = list("ABCDEFGHIJKLMNOPQRSTUVWXYZΓΔΘΛΞΠΣΦΨΩαβγδεζηλμξπσφω")
CAPITALS = LETTERS[:26]  # the Latin ones
DIGITS = list("0123456789")

# The faces that ship with matplotlib and hold both alphabets.
FACES = [
    *(f"DejaVuSans{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSerif{style}" for style in ("", "-Bold", "-Italic", "-BoldItalic")),
    *(f"DejaVuSansMono{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"STIXGeneral{style}" for style in ("", "Bol", "Italic", "BolIta")),
]

OVERSAMPLING = 3


class Glyph(NamedTuple):
    """Image number `index` of a character's class in a split (0 train, 1 val, 2 test)."""

    character: str
    split: int
    index: int
    seed: int


# Images are drawn class after class, so a few characters' faces suffice; all of them at 112 px
# would take 0.4 GB.
@lru_cache(maxsize=4 * len(FACES))
def _stencil(character: str, face: str, em: int) -> Image.Image:
    """Coverage of an upright character, ink box centred: mode "L", (2 em, 2 em) pixels."""
    path = (
        Path(find_spec("matplotlib").origin)
        .with_name("mpl-data")
        .joinpath("fonts", "ttf", f"{face}.ttf")
    )
    font = ImageFont.truetype(str(path), em)
    left, top, right, bottom = font.getbbox(character)
    stencil = Image.new("L", (2 * em, 2 * em))
    ImageDraw.Draw(stencil).text(
        (em - (left + right) / 2, em - (top + bottom) / 2), character, fill=255, font=font
    )
    return stencil


def _uneven(level: np.ndarray, spread: float, side: int, rng: np.random.Generator) -> Image.Image:
    """A soft RGB background of (side, side) pixels around the colour `level` (3,), in [0, 1]."""
    coarse = np.clip(
        level + rng.normal(0.0, spread, (3, 3, 1)) + rng.normal(0.0, spread / 2, (3, 3, 3)),
        0.0,
        1.0,
    )
    return Image.fromarray((255 * coarse).astype(np.uint8)).resize(
        (side, side), Image.Resampling.BICUBIC
    )


def draw(character: str, size: int, rng: np.random.Generator) -> np.ndarray:
    """One picture of `character`: uint8 RGB, (size, size, 3).

    Face, size, rotation, shear, place, colours, background, stray strokes and pixel noise come from
    `rng`. All geometry is relative to `size`, so that the same `rng` gives the same scene at any
    size, apart from the pixel noise.
    """
    side = OVERSAMPLING * size
    face = FACES[rng.integers(len(FACES))]
    scale = rng.uniform(0.65, 1.1)
    angle = np.deg2rad(rng.uniform(-20.0, 20.0))
    shear = rng.uniform(-0.3, 0.3)
    place = side * (0.5 + rng.uniform(-0.15, 0.15, 2))

    # Ink and paper lie on opposite sides of mid-grey, far enough apart to stay legible whatever
    # their tints.
    dark, light = rng.uniform(0.08, 0.32), rng.uniform(0.63, 0.92)
    ink, paper = (dark, light) if rng.random() < 0.5 else (light, dark)
    ink_colour = np.clip(ink + rng.uniform(-0.12, 0.12, 3), 0.0, 1.0)
    paper_colour = np.clip(paper + rng.uniform(-0.12, 0.12, 3), 0.0, 1.0)
    canvas = _uneven(paper_colour, 0.07, side, rng)

    pen = ImageDraw.Draw(canvas)
    for _ in range(rng.integers(0, 5)):
        ends = rng.uniform(0.0, side, 4).tolist()
        shade = paper_colour + rng.uniform(0.3, 0.7) * (ink_colour - paper_colour)
        pen.line(
            ends,
            fill=tuple((255 * shade).astype(int).tolist()),
            width=round(rng.uniform(0.02, 0.05) * side),
        )

    # Image.transform wants the map from output to input pixels, hence the inverse of scale *
    # rotation * shear.
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    inverse = np.linalg.inv(scale * rotation @ np.array([[1.0, shear], [0.0, 1.0]]))
    offset = side - inverse @ place
    coefficients = (*inverse[0], offset[0], *inverse[1], offset[1])
    coverage = _stencil(character, face, side).transform(
        (side, side), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR
    )
    canvas.paste(tuple((255 * ink_colour).astype(int).tolist()), mask=coverage)

    pixels = np.asarray(canvas.reduce(OVERSAMPLING), dtype=np.float32)
    pixels += 255 * rng.uniform(0.0, 0.06) * rng.standard_normal(pixels.shape, dtype=np.float32)
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def picture(glyph: Glyph, size: int) -> np.ndarray:
    """uint8 RGB (size, size, 3) of one glyph."""
    # The code point, not the label, keys the stream: letter 0 and digit 0 must not share face,
    # place and background.
    key = [glyph.seed, glyph.split, ord(glyph.character), glyph.index]
    return draw(glyph.character, size, np.random.default_rng(key))
