"""Clean images: loss and accuracy as they are, under stored and recomputed BatchNorm statistics."""
import sys

from common import passport

TITLE, SOURCE = "Clean images", "the original report"
LEVEL, UNITS, LEVELS, REPEATS = "level", "none", [0.0], 1
BATCHNORM = ["stored", "recomputed"]


def perturb(images, labels, levels, generator, model):
    """Yields `images` (N, 3, H, W) themselves, once a level."""
    for _ in levels:
        yield images


if __name__ == "__main__":
    passport.main(__doc__, [sys.modules[__name__]])
