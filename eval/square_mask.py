"""Masked squares: one black square an image, each at its own random place inside the image."""

import sys

import torch

from common import cli
from common.measuring import passport

TITLE = "Masked squares"
SOURCE = "the original report"
LEVEL = "side"
UNITS = "fraction of the image's side"
LEVELS = [i * 5 / 112 for i in range(20)]
LEVEL_TYPE = cli.fraction
REPEATS = 10


def perturb(images, labels, levels, generator, model):
    """Yields images (N, 3, H, W) with a square of round(side x H) pixels set to 0.

    Its place in [0, 1]² is drawn once for all sides.
    """
    vertical, horizontal = torch.rand(2, len(images), 1, 1, 1, generator=generator).to(
        images.device
    )
    height, width = images.shape[2:]
    rows = torch.arange(height, device=images.device).view(1, 1, height, 1)
    columns = torch.arange(width, device=images.device).view(1, 1, 1, width)
    for side in levels:
        pixels = round(side * height)
        top = (vertical * (height - pixels + 1)).floor()
        left = (horizontal * (width - pixels + 1)).floor()
        in_rows = (rows >= top) & (rows < top + pixels)
        in_columns = (columns >= left) & (columns < left + pixels)
        yield images.masked_fill(in_rows & in_columns, 0)


if __name__ == "__main__":
    passport.main(__doc__, [sys.modules[__name__]])
