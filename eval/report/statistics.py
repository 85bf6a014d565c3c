"""Statistics of the report, on plain arrays.

Settings are fixed, seeds are the sample: repeats of a level and runs of a minimum are averaged
before all else.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

LEAST_DF = 5  # below it a correlation gets no interval and no verdict
LEAST_VALUES = 3  # below it a mean gets no interval
SAME = 1e-9  # values that differ by less, relative to the largest, are equal: rounding


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with Student's intervals; without ends where `why` says why."""

    mean: float
    low: float  # the 95 % interval
    high: float
    low_90: float  # the 90 % interval: two one-sided tests at 5 %
    high_90: float
    p: float  # two-sided, of a mean of 0
    std: float
    n: int
    why: str  # there is no interval; "" where there is one

    @property
    def numbers(self) -> tuple[float, ...]:
        """(mean, low, high); (mean,) where there is no interval."""
        return (self.mean,) if self.why else (self.mean, self.low, self.high)


def estimate(values: Sequence[float], step: float = 0) -> Estimate:
    """The mean of `values` (n,), one a seed, with its intervals and p; NaN where there is none.

    None from fewer than LEAST_VALUES values, nor from equal ones: their spread is not 0, it is
    not known. `step`: what one image more or less changes in a value; no interval ends nearer to
    the mean, because values that agree to the image are not known better than that.
    """
    mean, std, n = mean_std(values) if len(values) else (np.nan, np.nan, 0)
    why = no_interval(values)
    if why:
        return Estimate(float(mean), *[np.nan] * 5, float(std), n, why)
    error = std / np.sqrt(n)
    half, half_90 = np.maximum(stats.t.ppf([0.975, 0.95], n - 1) * error, step)
    p = 2 * stats.t.sf(abs(mean) / error, n - 1)
    ends = mean - half, mean + half, mean - half_90, mean + half_90
    return Estimate(float(mean), *map(float, ends), float(p), float(std), n, "")


def difference(values: Sequence[float], others: Sequence[float]) -> Estimate:
    """Mean of `values` (n,) - mean of `others` (m,), independent samples; Welch's intervals."""
    one, other = estimate(values), estimate(others)
    mean, count = one.mean - other.mean, one.n + other.n
    if one.why or other.why:
        return Estimate(mean, *[np.nan] * 6, count, one.why or other.why)
    variances = one.std**2 / one.n, other.std**2 / other.n
    error = np.sqrt(sum(variances))
    df = sum(variances) ** 2 / (variances[0] ** 2 / (one.n - 1) + variances[1] ** 2 / (other.n - 1))
    half, half_90 = stats.t.ppf([0.975, 0.95], df) * error
    p = 2 * stats.t.sf(abs(mean) / error, df)
    ends = mean - half, mean + half, mean - half_90, mean + half_90
    return Estimate(mean, *map(float, ends), float(p), np.nan, count, "")


def no_interval(values: Sequence[float]) -> str:
    """Why `values` (n,) have no interval, in words; "" where they have one."""
    values = np.asarray(values, float)
    if len(values) < LEAST_VALUES:
        return f"n = {len(values)}: no interval"
    if not np.isfinite(values).all():
        return "not finite: no interval"
    if np.ptp(values) <= SAME * np.abs(values).max():
        return "equal in all seeds: no interval"
    return ""


def mean_std(values: Sequence) -> tuple[np.ndarray, np.ndarray, int]:
    """Mean, std (ddof 1; NaN where n is 1, or a value is infinite) and n over the first axis of
    `values` (n, …).
    """
    # One order of summing: last bits do not depend on the order of files.
    values = np.sort(np.asarray(values, float), axis=0)
    if len(values) > 1:
        with np.errstate(invalid="ignore"):
            std = values.std(0, ddof=1)
    else:
        std = np.full(values.shape[1:], np.nan)
    return values.mean(0), std, len(values)


def median(values: Sequence[float]) -> float:
    """The median, where NaN ("never reached") counts as infinitely late."""
    return float(np.median(np.where(np.isnan(values), np.inf, values)))


def t_interval(values: Sequence[float], step: float = 0) -> tuple[float, float, float, int]:
    """(mean, low, high, n): Student's 95 % interval of the mean of `values` (n,), one a seed.

    The ends are NaN where `no_interval` says why. A percentile bootstrap of so few values covers
    82-86 %.
    """
    found = estimate(values, step)
    return found.mean, found.low, found.high, found.n


def detectable_difference(values: Sequence[float]) -> float:
    """The mean difference that a paired t test at 0.05 finds with 80 % power.

    With as many seeds and the spread of `values` (n,); NaN where they have none.
    """
    _, std, n = mean_std(values)
    return float(std) * detectable_effect(n) if std > 0 else np.nan


def detectable_effect(n: int) -> float:
    """The same in standard deviations of `n` differences; NaN of fewer than two."""
    if n < 2:
        return np.nan
    critical = stats.t.ppf(0.975, n - 1)

    def shortfall(noncentrality):
        return stats.nct.sf(critical, n - 1, noncentrality) - 0.8

    return float(optimize.brentq(shortfall, 0, 100) / np.sqrt(n))


def ranks(values: Sequence[float]) -> np.ndarray:
    """Ranks (n,) of `values`, ties their mean; infinity is the last rank, NaN stays NaN."""
    return stats.rankdata(values, nan_policy="omit")


def correlation(
    x: Sequence[float],
    y: Sequence[float],
    settings: Sequence,
    seeds: Sequence,
    covariate: Sequence[float] | None = None,
) -> dict[str, float]:
    """Correlation of `x` and `y` (n,), a value a minimum, within settings: after the mean of each
    setting is taken from its minima, and after regression on `covariate` (n,) if there is one.

    {"r", "low", "high", "p", "df", "df_most", "n"}: Fisher's 95 % interval, Student's p. Minima of
    one seed share their initial weights and images, and settings share parts of their paths, so
    they are not independent: df is the effective number of Clifford, Richardson and Hémon 1989
    (Biometrics 45), from the covariances between settings of x and of y over seeds, at most
    df_most = minima - settings - covariates - 1. Without it, a seed effect as large as the noise
    makes false verdicts in 12-23 of 100 studies (tests/simulate.py).

    NaN where a value is not finite, where nothing varies, and for all but r and df where
    df_most < LEAST_DF.
    """
    columns = [x, y] if covariate is None else [x, y, covariate]
    table, n = _pivot(columns, settings, seeds)
    most = n - table.shape[1] - len(table) + 1
    result = dict.fromkeys(("r", "low", "high", "p", "df"), np.nan) | {"df_most": most, "n": n}
    if not n or np.isinf(table).any():
        return result
    repeated = int((np.isfinite(table[0]).sum(1) > 1).sum())  # settings with more than one seed
    x, y = _within_settings(table)
    smallest = 1e-9 * max(1e-9, np.nanmax(np.abs(table[:2])))
    if not repeated or min(np.abs(x).max(), np.abs(y).max()) < smallest:
        return result
    a, b = x @ x.T, y @ y.T  # covariances between settings, over seeds
    shared = max(np.trace(a @ b), 1e-300)
    r = float(np.clip((x * y).sum() / np.sqrt(np.trace(a) * np.trace(b)), -1, 1))
    # In a balanced study (n - settings) / repeated is seeds - 1. That times tr A tr B / tr AB is
    # the effective number of independent deviations; x and the covariate take one each.
    effective = (n - len(a)) / repeated * np.trace(a) * np.trace(b) / shared - len(table) + 1
    result["r"], result["df"] = r, float(min(most, effective))
    if most >= LEAST_DF:
        result |= _fisher_and_student(r, result["df"])
    return result


def _within_settings(table: np.ndarray) -> np.ndarray:
    """x and y (2, settings, seeds), less each setting's mean and what the covariate explains."""
    centred = np.nan_to_num(table - np.nanmean(table, 2, keepdims=True))
    x_and_y = centred[:2]
    if len(centred) == 3 and centred[2].any():
        z = centred[2]
        x_and_y = np.stack([values - z * (values * z).sum() / (z * z).sum() for values in x_and_y])
    return x_and_y


def _fisher_and_student(r: float, df: float) -> dict[str, float]:
    """Fisher's 95 % interval and Student's p of a correlation with `df` degrees of freedom."""
    half = stats.norm.ppf(0.975) / np.sqrt(df - 1) if df > 1 else np.inf
    z = np.arctanh(np.clip(r, -1 + 1e-12, 1 - 1e-12))
    low, high = np.tanh(z + np.array([-half, half])).tolist()
    t = abs(r) * np.sqrt(df / max(1 - r * r, 1e-300)) if df > 0 else 0.0
    return {"low": low, "high": high, "p": float(2 * stats.t.sf(t, df)) if df > 0 else 1.0}


def pooled(x: Sequence[float], y: Sequence[float], settings: Sequence) -> tuple[float, list[float]]:
    """(r, [r without each setting]) over all minima as they come.

    It is description, because differences between settings have causes besides x.
    """
    x, y, settings = (np.asarray(values) for values in (x, y, settings))

    def r(keep):
        if keep.sum() > 2 and np.ptp(x[keep]) > 0 and np.ptp(y[keep]) > 0:
            return float(np.corrcoef(x[keep], y[keep])[0, 1])
        return np.nan

    return r(settings != ""), [r(settings != setting) for setting in dict.fromkeys(settings)]


def holm(p: Sequence[float]) -> np.ndarray:
    """Holm's adjusted p values of a family (m,); one that could not be tested (NaN) counts as 1."""
    p = np.nan_to_num(np.asarray(p, float), nan=1.0)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1, np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order]))
    return adjusted


def reliability(one: Sequence, other: Sequence, blocks: Sequence) -> float:
    """Split-half reliability: how much of what differs within blocks is no measurement noise.

    `one`, `other` (n,): a measure from one half of the images, or of the random draws, and from
    the other half, a value a minimum; `blocks` (n,): the seeds of a ladder, or the settings of a
    study. The mean of each block is taken from its values; the correlation of the two halves is
    brought to the whole length by Spearman and Brown (1910): 2 r / (1 + r). At most 1; 0 or less
    is noise alone. NaN where nothing varies.
    """
    both = np.array([one, other], float)
    keep, blocks = np.isfinite(both).all(0), np.asarray(blocks)
    for block in np.unique(blocks):
        inside = keep & (blocks == block)
        if inside.any():
            both[:, inside] -= both[:, inside].mean(1, keepdims=True)
    one, other = both[:, keep]
    size = np.sqrt((one @ one) * (other @ other)) if keep.any() else 0
    if not size > 0:
        return np.nan
    r = float(one @ other / size)
    return max(-1.0, 2 * r / (1 + r)) if r > -1 else -1.0


def _pivot(columns: Sequence, settings: Sequence, seeds: Sequence) -> tuple[np.ndarray, int]:
    """Columns (n,) as a table (columns, settings, seeds), and how many minima are in it.

    NaN where a cell has no minimum, or lacks any of the columns. ValueError where two minima share
    one cell: one of them would be lost, and counted.
    """
    columns = np.asarray(columns, float)
    keep = ~np.isnan(columns).any(0)
    setting_names, setting = np.unique(np.asarray(settings)[keep], return_inverse=True)
    seed_names, seed = np.unique(np.asarray(seeds)[keep], return_inverse=True)
    if len(set(zip(setting.tolist(), seed.tolist()))) < len(seed):
        raise ValueError("two minima of one setting and one seed")
    table = np.full((len(columns), len(setting_names), len(seed_names)), np.nan)
    table[:, setting, seed] = columns[:, keep]
    return table, int(keep.sum())
