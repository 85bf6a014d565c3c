"""Summaries of a perturbation's curves, each as value, low, high: what of the clean network is left, and how far it takes to break it.

Intervals are 95 % percentile intervals of a bootstrap that resamples whole repeats and images, both at once, never levels (the pigeonhole
bootstrap, Owen 2007, arXiv 0712.1111: conservative). Of n, n-1 are drawn: with n draws the variance of a mean of few repeats is too small by
1 - 1/n (Rao and Wu 1988). Two or three repeats remain few: such an interval is too short. Every group and minimum sees the same resamples.
"""

import functools

import numpy as np

from common import files

RESAMPLES = 1000
INTERVAL = f"95 %, bootstrap over whole repeats and images, {RESAMPLES} resamples"


@functools.cache
def shares(count, of):
    """Weights (1 + RESAMPLES, count) of the mean over `count` things: equal ones, then those of each resample. `of`: a word, for the seed."""
    drawn = np.ones((RESAMPLES, count))
    if count > 1:
        rng = np.random.default_rng(int(files.sha256("resample", of, count)[:16], 16))
        drawn = rng.multinomial(count - 1, np.full(count, 1 / count), RESAMPLES) / (count - 1)
    return np.vstack([np.full((1, count), 1 / count), drawn])


def error(values):
    """Standard error of the mean of `values` (n,); NaN for one."""
    return float(np.std(values, ddof=1) / len(values) ** 0.5) if len(values) > 1 else float("nan")


def crossed(table, sizes):
    """(mean, standard error) of a table (random draws, batches of images), batches weighted by `sizes`: over draws and over images, added up."""
    table = np.asarray(table)
    by_draw, by_batch = table @ np.asarray(sizes) / np.sum(sizes), table.mean(0)
    return float(by_draw.mean()), float(
        np.sqrt(np.nansum([error(by_draw) ** 2, error(by_batch) ** 2]))
    )


def resampled(values):
    """Means over repeats and images of `values` (L, R, N): (L, 1 + RESAMPLES), the plain mean first."""
    repeats, images = shares(values.shape[1], "repeats"), shares(values.shape[2], "images")
    return np.einsum("lrb,br->lb", values.astype(np.float64) @ images.T, repeats)


def first_crossing(levels, curves, target):
    """Level at which `curves` (L, B) first rise to `target`, linear between `levels` (L,): (B,), inf where they never do (censored),
    NaN where a curve is NaN (relative to a clean accuracy of 0)."""
    above = curves >= target
    at = above.argmax(0)
    before, column = np.maximum(at - 1, 0), np.arange(curves.shape[1])
    low, high = curves[before, column], curves[at, column]
    with np.errstate(divide="ignore", invalid="ignore"):
        part = np.where(at > 0, (target - low) / (high - low), 0)
    never = np.where(np.isnan(curves).any(0), np.nan, np.inf)
    return np.where(above.any(0), levels[before] + part * (levels[at] - levels[before]), never)


def bounds(samples):
    """(…, 3) value, low, high of `samples` (…, 1 + RESAMPLES). Nearest ranks: infinities are never averaged."""
    low, high = np.percentile(samples[..., 1:], [2.5, 97.5], axis=-1, method="nearest")
    return np.stack([samples[..., 0], low, high], -1)


def of(levels, loss, correct, clean_loss, clean_correct):
    """{name: (L, 3) or (3,)} from `levels` (L,), loss (nats) and correctness (L, R, N), and the clean network's (N,) on the same images.

    Each level's loss and accuracy, the change of loss from clean and accuracy relative to clean accuracy, their means over the levels; the
    levels at which accuracy is half of clean and loss one nat above (inf: beyond the largest). NaN where clean accuracy is 0.
    """
    levels = np.asarray(levels, float)
    loss, accuracy = resampled(loss), resampled(correct)
    clean_loss, clean_accuracy = (
        resampled(values[None, None])[0] for values in (clean_loss, clean_correct)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        curves = {
            "accuracy": accuracy,
            "accuracy_relative": accuracy / clean_accuracy,
            "loss": loss,
            "loss_change": loss - clean_loss,
        }
    found = {name: bounds(curve) for name, curve in curves.items()}
    if levels[-1] == 0:
        return found
    found |= {f"mean_{name}": bounds(curve.mean(0)) for name, curve in curves.items()}
    if levels[0] > 0:
        levels = np.append(0, levels)
        curves = {
            name: np.vstack([np.full(curve.shape[1], float(name == "accuracy_relative")), curve])
            for name, curve in curves.items()
        }
    found["half_accuracy_level"] = bounds(
        first_crossing(levels, 1 - curves["accuracy_relative"], 0.5)
    )
    found["one_nat_level"] = bounds(first_crossing(levels, curves["loss_change"], 1.0))
    return found
