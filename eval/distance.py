"""Distance: how far two minima are from each other in weight space.

All parameters; weights of convolutions and linear layers; parameters of BatchNorm; and each tensor
by itself. Statistics of BatchNorm are buffers, and no part of a distance.
"""

import sys

from common.measuring import comparison
from common.networks import weights

TITLE = "Distance in weight space"
SOURCE = "the original report"
UNITS = {
    "raw": "Euclidean norm of the difference",
    "relative": "raw / mean of the two norms",
    "cosine": "cosine of the angle between the two",
    "layers": "Euclidean norm of the difference",
}


def compare(bench, a, b):
    """{path: number}, and the raw distance of each parameter {name: number}."""
    groups_a, groups_b = weights.groups(a), weights.groups(b)
    results = {}
    for group in groups_a:
        for name, value in weights.distance(groups_a[group], groups_b[group]).items():
            results[f"distance/{group}/{name}"] = value
    results["distance/layers"] = {
        name: weights.distance({name: value}, {name: groups_b["all"][name]})["raw"]
        for name, value in groups_a["all"].items()
    }
    return results


if __name__ == "__main__":
    comparison.main(__doc__, sys.modules[__name__])
