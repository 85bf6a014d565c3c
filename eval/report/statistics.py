"""Statistics of the report, on plain arrays.

Settings are fixed, seeds are the sample: repeats of a level and runs of a minimum are averaged
before all else.
"""

from collections.abc import Sequence

import numpy as np
from scipy import optimize, stats

LEAST_DF = 5  # below it a correlation gets no interval and no verdict


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


def t_interval(values: Sequence[float]) -> tuple[float, float, float, int]:
    """(mean, low, high, n): Student's 95 % interval of the mean of `values` (n,), one a seed.

    The ends are NaN where n < 2. A percentile bootstrap of so few values covers 82-86 %.
    """
    mean, std, n = mean_std(values)
    half = stats.t.ppf(0.975, n - 1) * std / np.sqrt(n) if n > 1 else np.nan
    return float(mean), float(mean - half), float(mean + half), n


def detectable_difference(values: Sequence[float]) -> float:
    """The mean difference that a paired t test at 0.05 finds with 80 % power.

    With as many seeds and the spread of `values` (n,); NaN where they have none.
    """
    _, std, n = mean_std(values)
    if n < 2 or not std > 0:
        return np.nan
    critical = stats.t.ppf(0.975, n - 1)

    def shortfall(noncentrality):
        return stats.nct.sf(critical, n - 1, noncentrality) - 0.8

    return float(optimize.brentq(shortfall, 0, 100) * std / np.sqrt(n))


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


def detectable_correlation(df: float, family: int) -> float:
    """The |r| (0 to 1) that is found with 80 % power, with `df` degrees of freedom.

    As the first of a `family` of tests under Holm.
    """
    if not df > 1:
        return 1.0
    t = stats.t.ppf(1 - 0.025 / family, df)
    z = np.arctanh(t / np.sqrt(df + t * t)) + stats.norm.ppf(0.8) / np.sqrt(df - 1)
    return float(np.tanh(z))


def _pivot(columns: Sequence, settings: Sequence, seeds: Sequence) -> tuple[np.ndarray, int]:
    """Columns (n,) as a table (columns, settings, seeds), and how many minima are in it.

    NaN where a cell has no minimum, or lacks any of the columns.
    """
    columns = np.asarray(columns, float)
    keep = ~np.isnan(columns).any(0)
    setting_names, setting = np.unique(np.asarray(settings)[keep], return_inverse=True)
    seed_names, seed = np.unique(np.asarray(seeds)[keep], return_inverse=True)
    table = np.full((len(columns), len(setting_names), len(seed_names)), np.nan)
    table[:, setting, seed] = columns[:, keep]
    return table, int(keep.sum())
