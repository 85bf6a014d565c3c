"""Statistics of the report. Methods are fixed, seeds are the sample: repeats of a level and runs of a minimum are averaged before all else."""

import numpy as np
from scipy import optimize, stats

LEAST_DF = 5  # below it a correlation gets no interval and no verdict


def mean_std(values):
    """Mean, std (ddof 1; NaN where n is 1) and n over the first axis of `values` (n, …)."""
    values = np.sort(
        np.asarray(values, float), axis=0
    )  # one order of summing: last bits do not depend on the order of files
    return (
        values.mean(0),
        values.std(0, ddof=1) if len(values) > 1 else np.full(values.shape[1:], np.nan),
        len(values),
    )


def median(values):
    """The median, where NaN ("never reached") counts as infinitely late."""
    return float(np.median(np.where(np.isnan(values), np.inf, values)))


def t_interval(values):
    """(mean, low, high, n): Student's 95 % interval of the mean of independent `values` (n,), a value a seed; NaN ends where n < 2.

    A percentile bootstrap of so few values covers 82-86 %.
    """
    mean, std, n = mean_std(values)
    half = stats.t.ppf(0.975, n - 1) * std / np.sqrt(n) if n > 1 else np.nan
    return float(mean), float(mean - half), float(mean + half), n


def detectable_difference(values):
    """The mean difference that a paired t test at 0.05 finds with 80 % power, with as many seeds and the spread of `values` (n,)."""
    _, std, n = mean_std(values)
    if n < 2 or not std > 0:
        return np.nan
    critical = stats.t.ppf(0.975, n - 1)
    return float(
        optimize.brentq(
            lambda noncentrality: stats.nct.sf(critical, n - 1, noncentrality) - 0.8, 0, 100
        )
        * std
        / np.sqrt(n)
    )


def ranks(values):
    """Ranks (n,) of `values`, ties their mean; infinity is the last rank, NaN stays NaN."""
    return stats.rankdata(values, nan_policy="omit")


def correlation(x, y, methods, seeds, covariate=None):
    """Correlation of `x` and `y` (n,) within methods, a value a minimum, after regression on `covariate` (n,) if there is one.

    {"r", "low", "high", "p", "df", "df_most", "n"}: Fisher's 95 % interval, Student's p. Minima of one seed share their initial weights and
    images, and methods share parts of their paths, so they are not independent: df is the effective number of Clifford, Richardson and
    Hémon 1989 (Biometrics 45), from the covariances between methods of x and of y over seeds, at most
    df_most = minima - methods - covariates - 1. Without it, a seed effect as large as the noise makes false verdicts in 12-23 of 100 studies (tests/simulate.py).
    NaN where a value is not finite, where nothing varies, and for all but r and df where df_most < 5.
    """
    table, n = _pivot([x, y] + ([] if covariate is None else [covariate]), methods, seeds)
    used = int((np.isfinite(table[0]).sum(1) > 1).sum())  # methods with more than one seed
    most = n - table.shape[1] - len(table) + 1
    found = {
        "r": np.nan,
        "low": np.nan,
        "high": np.nan,
        "p": np.nan,
        "df": np.nan,
        "df_most": most,
        "n": n,
    }
    if not n or np.isinf(table).any():
        return found
    centred = np.nan_to_num(table - np.nanmean(table, 2, keepdims=True))
    if covariate is not None and (z := centred[2]).any():
        centred = [values - z * (values * z).sum() / (z * z).sum() for values in centred[:2]]
    x, y = centred[:2]
    if not used or min(np.abs(x).max(), np.abs(y).max()) < 1e-9 * max(
        1e-9, np.nanmax(np.abs(table[:2]))
    ):
        return found
    a, b = x @ x.T, y @ y.T
    shared = max(np.trace(a @ b), 1e-300)
    found["r"] = r = float(np.clip((x * y).sum() / np.sqrt(np.trace(a) * np.trace(b)), -1, 1))
    found["df"] = df = float(
        min(most, (n - len(a)) / used * np.trace(a) * np.trace(b) / shared - len(table) + 1)
    )
    if most >= LEAST_DF:
        half = stats.norm.ppf(0.975) / np.sqrt(df - 1) if df > 1 else np.inf
        found["low"], found["high"] = np.tanh(
            np.arctanh(np.clip(r, -1 + 1e-12, 1 - 1e-12)) + np.array([-half, half])
        ).tolist()
        found["p"] = (
            float(2 * stats.t.sf(abs(r) * np.sqrt(df / max(1 - r * r, 1e-300)), df))
            if df > 0
            else 1.0
        )
    return found


def pooled(x, y, methods):
    """(r, [r without each method]) over all minima as they come: description, because differences between methods have causes besides x."""
    x, y, methods = (np.asarray(values) for values in (x, y, methods))

    def r(keep):
        return (
            float(np.corrcoef(x[keep], y[keep])[0, 1])
            if keep.sum() > 2 and np.ptp(x[keep]) > 0 and np.ptp(y[keep]) > 0
            else np.nan
        )

    return r(methods != ""), [r(methods != method) for method in dict.fromkeys(methods)]


def holm(p):
    """Holm's adjusted p values of a family (m,); one that could not be tested (NaN) counts as 1."""
    p = np.nan_to_num(np.asarray(p, float), nan=1.0)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1, np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order]))
    return adjusted


def detectable_correlation(df, family):
    """The |r| that is found with 80 % power as the first of a `family` of tests under Holm, with `df` degrees of freedom (from 0 to 1)."""
    if not df > 1:
        return 1.0
    t = stats.t.ppf(1 - 0.025 / family, df)
    return float(
        np.tanh(np.arctanh(t / np.sqrt(df + t * t)) + stats.norm.ppf(0.8) / np.sqrt(df - 1))
    )


def _pivot(columns, methods, seeds):
    """Columns (n,) as a table (columns, methods, seeds), NaN where a cell has no minimum or lacks any of the columns; and the n that are used."""
    columns = np.asarray(columns, float)
    keep = ~np.isnan(columns).any(0)
    methods, seeds = (
        np.unique(np.asarray(names)[keep], return_inverse=True) for names in (methods, seeds)
    )
    table = np.full((len(columns), len(methods[0]), len(seeds[0])), np.nan)
    table[:, methods[1], seeds[1]] = columns[:, keep]
    return table, int(keep.sum())
