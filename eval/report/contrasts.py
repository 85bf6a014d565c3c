"""Contrasts along a ladder, on plain arrays.

A ladder is a list of settings, its rungs, in the order of one knob; the same seeds climb every
rung. What is measured is an array (S, R): a row a seed, a column a rung. The seed is the block:
each gives one number, its contrast, and statistics over seeds are Student's.
"""

import functools
from collections.abc import Sequence

import numpy as np
from scipy import optimize, stats

from eval.report import statistics
from eval.report.statistics import Estimate

PERMUTATIONS = 2000
TRIALS = 4000  # simulated ladders behind a detectable change
POWER = 0.8


def centred_ranks(rungs: int) -> np.ndarray:
    """The ranks of the rungs (R,), less their mean: -1.5, -0.5, 0.5, 1.5 of four."""
    return np.arange(rungs) - (rungs - 1) / 2


def change(values: np.ndarray) -> np.ndarray:
    """The change from the first to the last rung (S,) along each seed's straight line.

    `values` (…, S, R). The line is fitted by least squares on the rungs' ranks a:
    (R - 1) Σ a y / Σ a².
    """
    ranks = centred_ranks(values.shape[-1])
    return (len(ranks) - 1) * (values @ ranks) / (ranks @ ranks)


def bend(values: np.ndarray) -> np.ndarray:
    """How far the middle of each seed's ladder lies above the straight line (S,).

    `values` (S, R). It is the quadratic contrast, orthogonal to the line, as the height of the
    fitted parabola in the middle above the chord between its ends: a test of lack of fit. NaN for
    fewer than three rungs.
    """
    ranks = centred_ranks(values.shape[-1])
    parabola = ranks**2 - (ranks**2).mean()
    if len(ranks) < 3:
        return np.full(len(values), np.nan)
    return -(ranks[-1] ** 2) * (values @ parabola) / (parabola @ parabola)


def permuted(values: np.ndarray) -> float:
    """p of the mean change when rungs are permuted within each seed; `values` (S, R).

    Sensitivity alone, never a verdict: it takes slopes that differ between seeds for an effect
    (16 to 32 false of 100). The draws are the same for all.
    """
    rng = np.random.default_rng(0)
    shuffled = rng.permuted(np.broadcast_to(values, (PERMUTATIONS, *values.shape)), axis=-1)
    means, observed = np.abs(change(shuffled).mean(-1)), abs(change(values).mean())
    # Shuffles that change nothing must count, whatever the order of summing.
    return float((1 + (means >= observed * (1 - 1e-9)).sum()) / (1 + PERMUTATIONS))


def given(values: np.ndarray, covariate: np.ndarray) -> tuple[np.ndarray, float]:
    """(change (S,) that remains where the covariate does not change, share of the covariate).

    `values`, `covariate` (S, R). The partial slope: seed means and each seed's straight line are
    taken from both; what is left of the values is regressed on what is left of the covariate, over
    all seeds, and that slope times the covariate's change is taken from each seed's change (the
    analysis of covariance). The share, 0 to 1, of the covariate's variation within seeds lies along
    the seeds' lines: near 1 the two go together, and the slope comes from next to nothing. NaN
    where the covariate does not vary off the lines.
    """
    left_of_values, left = off_the_line(values), off_the_line(covariate)
    whole = covariate - covariate.mean(1, keepdims=True)
    squares = (left**2).sum()
    if not squares > statistics.SAME**2 * max((covariate**2).sum(), 1e-300):
        return np.full(len(values), np.nan), np.nan
    slope = (left * left_of_values).sum() / squares
    return change(values) - slope * change(covariate), float(1 - squares / (whole**2).sum())


def off_the_line(values: np.ndarray) -> np.ndarray:
    """What is left of `values` (S, R) when each seed's mean and straight line are taken away."""
    ranks = centred_ranks(values.shape[1])
    slopes = change(values) / (len(ranks) - 1)
    return values - values.mean(1, keepdims=True) - slopes[:, None] * ranks


def slopes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The slope of y on x within each seed (S,), over all its rungs; `x`, `y` (S, R).

    NaN for a seed in which x is the same on all rungs.
    """
    x, y = (values - values.mean(1, keepdims=True) for values in (x, y))
    squares = (x * x).sum(1)
    return np.divide((x * y).sum(1), squares, out=np.full(len(x), np.nan), where=squares > 0)


def per_unit(outcome: Sequence[float], measure: Sequence[float]) -> np.ndarray:
    """Change of the outcome per unit of the measure (S,), from both changes of each seed (S,).

    Their mean is the ratio of the mean changes. Both of these have errors, so each seed's value is
    the ratio's first-order expansion (the delta method): the ratio, plus (outcome - ratio x
    measure) / mean measure. The plain outcome / mean measure takes the denominator for known
    (tests/simulate_ladders.py).
    """
    outcome, measure = np.asarray(outcome), np.asarray(measure)
    ratio = outcome.mean() / measure.mean()
    return ratio + (outcome - ratio * measure) / measure.mean()


def without_each(values: Sequence[float], step: float = 0) -> list[Estimate]:
    """Estimates from `values` (S,) with one left out: S of them."""
    return [statistics.estimate(np.delete(values, k), step) for k in range(len(values))]


def keeps_its_sign(full: Estimate, without: Sequence[Estimate]) -> bool:
    """Whether the 95 % interval excludes 0, on the same side whichever seed is left out."""
    everyone = [full, *without]
    return all(each.low > 0 for each in everyone) or all(each.high < 0 for each in everyone)


def stays_within(full: Estimate, without: Sequence[Estimate], margin: float) -> bool:
    """Whether the 90 % interval lies inside ± `margin`, whichever seed is left out."""
    return all(-margin < each.low_90 and each.high_90 < margin for each in [full, *without])


def bound(full: Estimate, without: Sequence[Estimate]) -> float:
    """The smallest margin within which the change stays: no verdict, a size."""
    ends = [abs(end) for each in [full, *without] for end in (each.low_90, each.high_90)]
    return float(np.max(ends))  # NaN where one has no interval


@functools.cache
def detectable(seeds: int, family: int, alpha: float = 0.05) -> float:
    """The mean change, in standard deviations of the seeds' changes, that is found in 80 of 100.

    By simulation of the whole rule at that change: normal changes of `seeds` seeds, the first of a
    `family` of tests under Holm, no seed whose leaving out undoes it. NaN below four seeds.
    """
    if seeds < 4:
        return np.nan
    draws = np.random.default_rng(0).normal(size=(TRIALS, seeds))

    def shortfall(effect):
        return found(draws + effect, alpha / family).mean() - POWER

    return float(optimize.brentq(shortfall, 0, 50, xtol=0.01))


def found(changes: np.ndarray, alpha: float) -> np.ndarray:
    """Whether each of many simulated ladders rises (T,), by the rule of `keeps_its_sign`.

    `changes` (T, S): T ladders of S seeds; `alpha`: the level of the test of all seeds.
    """
    count = changes.shape[1]
    everyone = changes.mean(1) / (changes.std(1, ddof=1) / np.sqrt(count))
    result = everyone > stats.t.ppf(1 - min(alpha, 0.05) / 2, count - 1)
    for left_out in range(count):
        rest = np.delete(changes, left_out, 1)
        t = rest.mean(1) / (rest.std(1, ddof=1) / np.sqrt(count - 1))
        result &= t > stats.t.ppf(0.975, count - 2)
    return result
