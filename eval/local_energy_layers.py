"""Local energy of one part of the network at a time: only its convolution and linear weights are
perturbed, w·(1 + sigma·z).

A part is a child of the network that has such weights; of a ResNet: conv1 (the stem), layer1 …
layer4 (the stages), fc (the classifier).
"""

import sys

from common.measuring import passport
from common.networks import weights

TITLE = "Local energy by layers"
SOURCE = "Pittorino et al. 2020, arXiv 2006.07897, a part at a time"
LEVEL = "sigma"
UNITS = "standard deviation relative to each weight"
LEVELS = [0.0, 0.1, 0.2, 0.35, 0.5]
REPEATS = 5
SPLITS = ["test"]

perturb_weight = weights.multiplicative_noise


def variants(model):
    """{part: {name: weight}}."""
    parts = {}
    for name, weight in weights.conv_linear(model).items():
        part = name.partition(".")[0]
        parts.setdefault(part, {})[name] = weight
    return parts


if __name__ == "__main__":
    passport.main(__doc__, [sys.modules[__name__]])
