"""Gaussian noise on the images: clamp(x + N(0, sigma²), 0, 1), one draw for all sigma."""

import sys

import torch

from common.measuring import passport

TITLE = "Gaussian noise"
SOURCE = "the original report"
LEVEL = "sigma"
UNITS = "std of the noise, images in [0, 1]"
LEVELS = [i / 20 for i in range(21)]
REPEATS = 10


def perturb(images, labels, levels, generator, model):
    """Yields images (N, 3, H, W) in [0, 1], one batch a sigma."""
    noise = torch.randn(images.shape, generator=generator).to(images.device)
    for sigma in levels:
        yield (images + sigma * noise).clamp(0, 1)


if __name__ == "__main__":
    passport.main(__doc__, [sys.modules[__name__]])
