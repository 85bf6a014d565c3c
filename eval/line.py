"""Line: loss and accuracy along the straight line between two minima, (1 - t)·a + t·b.

BatchNorm's statistics are interpolated like the weights (as the report did: in the middle they are
those of no network) and, apart, recomputed at every point.
"""

import sys

import numpy as np

from common import cli
from common.measuring import comparison
from common.networks import weights

TITLE = "Straight line between two minima"
SOURCE = "the original report; BatchNorm recomputed as in Garipov et al. 2018, arXiv 1802.10026"
UNITS = {"t": "position on the line: 0 the first minimum, 1 the second"}
AXIS = "t"
OPTIONS = {"points": (cli.integer(2), 51, "equidistant points on the line, both ends included")}


def compare(bench, a, b, points):
    """{path: array (points,)}: `path` with interpolated statistics, `path_recomputed`."""
    positions = np.linspace(0, 1, points)
    results = {}
    for path, recompute in ("path", False), ("path_recomputed", True):
        results[f"{path}/t"] = positions
        for name, curve in curves(bench, a.state_dict(), b.state_dict(), positions, recompute):
            results[f"{path}/{name}"] = curve
    return results


def curves(bench, a, b, positions, recompute):
    """{"train/loss": (T,), …} at each of `positions` (T,); a and b are state dicts."""
    result = {f"{split}/{name}": [] for split in bench.splits for name in ("loss", "accuracy")}
    with bench.restored_after():
        for t in positions:
            weights.interpolate(bench.model, a, b, float(t))
            bench.settle(recompute)
            for split in bench.splits:
                loss, correct = bench.evaluate(split)
                result[f"{split}/loss"].append(loss.double().mean().item())
                result[f"{split}/accuracy"].append(correct.double().mean().item())
    return result.items()


if __name__ == "__main__":
    comparison.main(__doc__, sys.modules[__name__])
