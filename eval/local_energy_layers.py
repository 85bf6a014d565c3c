"""Local energy of one part of the network at a time: only its convolution and linear weights are perturbed, w·(1 + sigma·z).

A part is a child of the network that has such weights; of a ResNet: conv1 (the stem), layer1 … layer4 (the stages), fc (the classifier).
"""

import sys

from common.measuring import passport
from common.networks import weights

TITLE, SOURCE = (
    "Local energy by layers",
    "Pittorino et al. 2020, arXiv 2006.07897, a part at a time",
)
LEVEL, UNITS, LEVELS, REPEATS = (
    "sigma",
    "standard deviation relative to each weight",
    [0.0, 0.1, 0.2, 0.35, 0.5],
    5,
)
SPLITS = ["test"]
perturb_weight = weights.multiplicative_noise


def variants(model):
    """{part: {name: weight}}."""
    found = weights.conv_linear(model)
    parts = {
        part: {name: weight for name, weight in found.items() if name.startswith(f"{part}.")}
        for part, _ in model.named_children()
    }
    return {part: members for part, members in parts.items() if members}


if __name__ == "__main__":
    passport.main(__doc__, [sys.modules[__name__]])
