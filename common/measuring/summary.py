"""Summaries of a perturbation's curves, each as value, low, high: what of the clean network is left
at each level, and how far it takes to break it.

Intervals are 95 % percentile intervals of a bootstrap that resamples whole repeats and images, both
at once, never levels (the pigeonhole bootstrap, Owen 2007, arXiv 0712.1111: conservative). Of n,
n-1 are drawn: with n draws the variance of a mean of few repeats is too small by 1 - 1/n (Rao and
Wu 1988). Two or three repeats remain few: such an interval is too short. Every group and minimum
sees the same resamples.

Shapes: L levels, R repeats, N images, B = 1 + RESAMPLES, where the first is the plain mean.
"""

import functools
from collections.abc import Sequence

import numpy as np

from common import files

SMALL_SHARE = 0.01  # of images without a gradient: what an attack can do without
RESAMPLES = 1000
INTERVAL = f"95 %, bootstrap over whole repeats and images, {RESAMPLES} resamples"


def summarise(
    levels: Sequence[float],
    loss: np.ndarray,
    correct: np.ndarray,
    clean_loss: np.ndarray,
    clean_correct: np.ndarray,
) -> dict[str, np.ndarray]:
    """{name: (L, 3) or (3,)} from loss (nats) and correctness (L, R, N) at `levels` (L,), and the
    clean network's (N,) on the same images.

    By level: accuracy, loss, accuracy_relative (to clean accuracy; NaN where that is 0) and
    loss_change (from clean loss). Their means over the levels: mean_accuracy and so on. The levels
    at which accuracy is half of clean (half_accuracy_level) and loss one nat above clean
    (one_nat_level): inf beyond the largest. Where level 0 alone was measured, only the first.
    """
    levels = np.asarray(levels, float)
    loss, accuracy = resample(loss), resample(correct)
    clean_loss = resample(clean_loss[None, None])[0]
    clean_accuracy = resample(clean_correct[None, None])[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = accuracy / clean_accuracy
        change = loss - clean_loss
    curves = {
        "accuracy": accuracy,
        "accuracy_relative": relative,
        "loss": loss,
        "loss_change": change,
    }
    result = {name: interval(curve) for name, curve in curves.items()}
    if levels[-1] == 0:
        return result
    result |= {f"mean_{name}": interval(curve.mean(0)) for name, curve in curves.items()}
    if levels[0] > 0:  # the curves start at the clean network
        levels = np.append(0, levels)
        relative = np.vstack([np.ones(relative.shape[1]), relative])
        change = np.vstack([np.zeros(change.shape[1]), change])
    result["half_accuracy_level"] = interval(first_crossing(levels, 1 - relative, 0.5))
    result["one_nat_level"] = interval(first_crossing(levels, change, 1.0))
    return result


@functools.cache
def bootstrap_weights(count: int, what: str) -> np.ndarray:
    """Weights (B, count) of the mean over `count` things: equal ones, then those of each resample.

    `what` they are: a word from which the resamples are drawn.
    """
    drawn = np.ones((RESAMPLES, count))
    if count > 1:
        rng = np.random.default_rng(int(files.sha256("resample", what, count)[:16], 16))
        drawn = rng.multinomial(count - 1, np.full(count, 1 / count), RESAMPLES) / (count - 1)
    return np.vstack([np.full((1, count), 1 / count), drawn])


def resample(values: np.ndarray) -> np.ndarray:
    """Means over repeats and images of `values` (L, R, N): (L, B)."""
    values = values.astype(np.float64)
    means = _weighted(np.nan_to_num(values, posinf=0, neginf=0, nan=0))
    infinite = np.isinf(values)
    if infinite.any():  # of a network that overflows; weight 0 times inf is 0 here
        means[_weighted(infinite.astype(float)) > 0] = np.inf
    if np.isnan(values).any():
        means[np.isnan(values).any((1, 2))] = np.nan
    return means


def _weighted(values: np.ndarray) -> np.ndarray:
    """Means (L, B) of finite `values` (L, R, N)."""
    repeats = bootstrap_weights(values.shape[1], "repeats")
    images = bootstrap_weights(values.shape[2], "images")
    return np.einsum("lrb,br->lb", values @ images.T, repeats)


def interval(samples: np.ndarray) -> np.ndarray:
    """Value, low, high (…, 3) of `samples` (…, B).

    Nearest ranks: infinities are never averaged.
    """
    low, high = np.percentile(samples[..., 1:], [2.5, 97.5], axis=-1, method="nearest")
    return np.stack([samples[..., 0], low, high], -1)


def first_crossing(levels: np.ndarray, curves: np.ndarray, target: float) -> np.ndarray:
    """The level (B,) at which `curves` (L, B) first rise to `target`, linear between `levels` (L,).

    inf where they never do (censored), NaN where a curve is NaN (relative to a clean accuracy of
    0).
    """
    above = curves >= target
    after = above.argmax(0)  # the first level at or above the target
    before, column = np.maximum(after - 1, 0), np.arange(curves.shape[1])
    low, high = curves[before, column], curves[after, column]
    with np.errstate(divide="ignore", invalid="ignore"):
        fraction = np.where(after > 0, (target - low) / (high - low), 0)
    crossing = levels[before] + fraction * (levels[after] - levels[before])
    never = np.where(np.isnan(curves).any(0), np.nan, np.inf)
    return np.where(above.any(0), crossing, never)


def undefined(arrays: dict[str, np.ndarray]) -> list[str]:
    """The paths of a group's datasets that should hold numbers, and hold none.

    A scalar is to be finite, but for a standard error, which one image or draw does not have. A
    loss may be infinite: so it is where a network overflows.
    """
    found = []
    for path, values in arrays.items():
        if path.endswith("/loss") and not path.startswith("summary/"):
            odd = np.isnan(values).any()
        else:
            odd = values.shape == (1,) and not path.endswith("_se") and not np.isfinite(values[0])
        found += [path] if odd else []
    return found


def standard_error(values: Sequence[float]) -> float:
    """Standard error of the mean of `values` (n,); NaN for one."""
    if len(values) < 2:
        return float("nan")
    return float(np.std(values, ddof=1) / len(values) ** 0.5)


def two_way_mean(table: Sequence, sizes: Sequence[int]) -> tuple[float, float]:
    """(mean, standard error) of a table (random draws, batches of images).

    Batches are weighted by `sizes`. The error is over draws and over batches, added up.
    """
    table = np.asarray(table)
    by_draw, by_batch = table @ np.asarray(sizes) / np.sum(sizes), table.mean(0)
    squares = [standard_error(by_draw) ** 2, standard_error(by_batch) ** 2]
    return float(by_draw.mean()), float(np.sqrt(np.nansum(squares)))
