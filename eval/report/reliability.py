"""Split-half reliability: how much of a measure is not the noise of having measured few images and
drawn few times.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from eval.report import statistics
from eval.report.halves import HALVES, IMAGES, REPEATS
from eval.report.reading import PARTIAL_MEANS, value_at_loss
from eval.report.results import SPLITS, Result
from eval.report.table import Value, Values

LEAST = 0.5  # below it a measure carries no verdict


def values(results: Iterable[Result]) -> Values:
    """What verdicts rest on, from halves of the images and draws: `statistic` is one of HALVES.

    A table of its own: these are no values of the study.
    """
    rows = []
    for result in results:
        if result.kind != "passport":
            continue
        whose = {
            "minimum": result.minimum,
            "method": result.attrs["method"],
            "setting": result.attrs["setting"],
            "seed": result.attrs["seed"],
            "kind": result.kind,
        }
        rows += [Value(**whose, **quantity) for quantity in quantities(result)]
    return Values(rows)


def quantities(result: Result) -> Iterator[dict]:
    """The quantities of one passport, each from every half that there is."""
    for group, attrs in result.groups.items():
        for split in SPLITS:
            loss, accuracy = (
                result.data.get(f"{group}/halves/{split}/{curve}") for curve in ("loss", "accuracy")
            )
            if loss is None or attrs["variant"]:
                continue
            what = {
                "source": attrs["measurement"],
                "group": group,
                "batchnorm": attrs["batchnorm"],
                "split": split,
            }
            levels = result.data[f"{group}/levels"]
            for k, half in enumerate(HALVES):
                if np.isfinite(loss[:, k]).all():
                    for quantity in of_curves(what["source"], levels, loss[:, k], accuracy[:, k]):
                        yield what | quantity | {"statistic": half}


def of_curves(
    source: str, levels: np.ndarray, loss: np.ndarray, accuracy: np.ndarray
) -> Iterator[dict]:
    """What the curves of one half (L,) come to; nothing where they do not begin at level 0."""
    if source == "clean":
        yield {"name": "loss", "value": loss[0]}
        yield {"name": "accuracy", "value": accuracy[0]}
    elif levels[0] == 0 and len(levels) > 1:
        curves = {"loss_change": loss - loss[0], "accuracy": accuracy}
        if accuracy[0] > 0:
            yield {"name": "relative", "value": (accuracy / accuracy[0]).mean()}
        level = value_at_loss(-curves["loss_change"], levels, -1.0)  # where one nat is gained
        yield {"name": "one_nat_level", "value": np.inf if np.isnan(level) else level}
        for mean in PARTIAL_MEANS:
            if mean.source == source:
                value = mean.of(levels, curves[mean.name])
                yield {"name": mean.name, "levels": mean.levels, "value": value}


def of(halves: Values, fields: dict[str, str], minima: Iterable[str], blocks: Iterable) -> float:
    """The least reliability of one quantity within `blocks`; NaN where no halves are known.

    Over halves of the images, and of the random draws where there are several: either alone
    overlooks the noise of the other. `halves`: of `values`; `fields` say which quantity;
    `minima` (n,) and the block of each (n,), its seed on a ladder or its setting elsewhere.
    """
    minima, blocks = list(minima), list(blocks)
    found = []
    for pair in IMAGES, REPEATS:
        one, other = (halves.aligned(minima, **fields | {"statistic": half}) for half in pair)
        found.append(statistics.reliability(one, other, blocks))
    return min((value for value in found if np.isfinite(value)), default=np.nan)
