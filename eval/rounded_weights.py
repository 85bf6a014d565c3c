"""Rounded weights: the loss where all convolution and linear weights are rounded to few bits, to
the nearest of evenly spaced values, 0 among them (symmetric quantisation, with a scale for each
output channel: Krishnamoorthi 2018, arXiv 1806.08342; Nagel et al. 2021, arXiv 2106.08295).

The level is the step between two values, as a fraction of the output channel's largest weight. With
b bits it is 1 / (2^(b-1) - 1): 1/127, 1/31, 1/7 and 1/3 for 8, 6, 4 and 3 bits. Nothing is drawn.
BatchNorm's parameters stay; its statistics are the stored ones, or recomputed for the rounded
weights.
"""

import sys

import torch

from common import cli
from common.measuring import passport

TITLE = "Rounded weights"
SOURCE = "Krishnamoorthi 2018, arXiv 1806.08342; Nagel et al. 2021, arXiv 2106.08295"
LEVEL = "step"
UNITS = "fraction of the output channel's largest weight"
LEVELS = [0.0] + [1 / (2 ** (bits - 1) - 1) for bits in (8, 6, 4, 3)]
LEVEL_TYPE = cli.fraction
BATCHNORM = ["stored", "recomputed"]


def perturb_weight(weight, levels, generator):
    """Yields `weight` rounded to multiples of each step; its first dimension is output channels."""
    largest = weight.abs().flatten(1).amax(1).view(-1, *[1] * (weight.ndim - 1))
    smallest = torch.finfo(weight.dtype).tiny  # for a channel whose weights are all 0
    for level in levels:
        step = (level * largest).clamp_min(smallest)
        yield (weight / step).round() * step


if __name__ == "__main__":
    passport.main(__doc__, [sys.modules[__name__]])
