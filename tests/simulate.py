"""What the report's correlations do on studies whose truth is known, at more sizes than the tests
have time for: python -m tests.simulate

Each line: studies of 5 predictors and 3 outcomes with independent effects of the setting (0, 1, 3
standard deviations of the noise, in turn) and an effect of the seed that its settings share. Per
100: null studies with any verdict, by the whole rule, by Holm alone, and by Holm with the plain
minima - settings - 1 degrees of freedom; intervals that hold the truth (0; 0.6; 0 given a
covariate); studies in which r = 0.8 and r = 0.95 get a verdict. Ladders have simulate_ladders.py.
"""

import numpy as np
from scipy import stats as scipy_stats

from eval.report import statistics, verdicts


def simulated(rng, settings, seeds, setting_effect, seed_effect=1.0, r=0.0, alike=""):
    """(values (minima, 8), settings (minima,), seeds (minima,)) of one study.

    Values are those of 5 predictors and 3 outcomes: independent effects of the setting, an effect
    of the seed that all its settings share, noise of std 1; column 0 and column 5 correlate with
    `r` within settings. `alike`: "twins", the last setting is nearly the first, as an average is to
    its last iterate; "ladder", each is nearly the one before it, as rungs of one knob are;
    "one bad": one minimum lies 6 standard deviations off in all columns.
    """

    def draw(*shape):
        values = rng.normal(size=(*shape, 8))
        values[..., 5] = r * values[..., 0] + np.sqrt(1 - r * r) * values[..., 5]
        return values

    noise = draw(settings, seeds)
    if alike == "one bad":
        noise[0, 0] += 6
    nearly = {"twins": [(-1, 0)], "ladder": [(k, k - 1) for k in range(1, settings)]}
    for one, other in nearly.get(alike, []):
        noise[one] = np.sqrt(0.9) * noise[other] + np.sqrt(0.1) * noise[one]
    values = noise + seed_effect * draw(1, seeds)
    values += setting_effect * rng.normal(size=(settings, 1, 8))
    return (
        values.reshape(-1, 8),
        np.repeat(np.arange(settings), seeds),
        np.tile(np.arange(seeds), settings),
    )


def line(settings, seeds, seed_effect, alike, trials=300):
    """The numbers of one line: per 100 studies, each of the things that the module names."""
    rng, counts = np.random.default_rng(0), []
    for k in range(trials):
        counts.append(study(rng, settings, seeds, (0, 1, 3)[k % 3], seed_effect, alike))
    return 100 * np.mean(counts, 0)


def study(rng, *size):
    """Whether one study made each mistake, or found each truth; `size` as `simulated` takes it."""
    *shape, alike = size
    values, *labels = simulated(rng, *shape, alike=alike)
    columns = [(values[:, x], values[:, y]) for x in range(5) for y in range(5, 8)]
    tests = [statistics.correlation(*pair, *labels) for pair in columns]
    given = statistics.correlation(values[:, 0], values[:, 5], *labels, values[:, 1])
    some, strong, stronger = (related(rng, shape, r, alike) for r in (0.6, 0.8, 0.95))
    testable = given["df_most"] >= statistics.LEAST_DF
    beyond_chance = statistics.holm([test["p"] for test in tests]) < verdicts.ALPHA
    candidates = [pair for pair, sure in zip(columns, beyond_chance) if sure]
    return [
        verdicts.outlives(candidates, *labels).any(),
        beyond_chance.any(),
        (statistics.holm([plain_p(test) for test in tests]) < verdicts.ALPHA).any(),
        np.mean([test["low"] <= 0 <= test["high"] for test in tests]),
        some[0]["low"] <= 0.6 <= some[0]["high"],
        given["low"] <= 0 <= given["high"] if testable else np.nan,
        found(*strong),
        found(*stronger),
    ]


def related(rng, shape, r, alike):
    """(correlation, what it is of) of columns 0 and 5 in a new study, where it is `r`."""
    values, *labels = simulated(rng, *shape, r, alike)
    columns = values[:, 0], values[:, 5], *labels
    return statistics.correlation(*columns), columns


def found(test, columns):
    """Whether a correlation gets a verdict, as the first of the family under Holm."""
    x, y, *labels = columns
    beyond_chance = test["p"] < verdicts.ALPHA / verdicts.FAMILY
    return beyond_chance and verdicts.outlives([(x, y)], *labels)[0]


def plain_p(test):
    """Student's p with minima - settings - 1 degrees of freedom."""
    t = abs(test["r"]) * np.sqrt(test["df_most"] / (1 - test["r"] ** 2))
    return 2 * scipy_stats.t.sf(t, test["df_most"])


if __name__ == "__main__":
    print(
        "settings seeds seed-effect alike | false: ours Holm plain | covered: 0, 0.6, 0 given | "
        "found: 0.8 0.95"
    )
    independent = [
        (settings, seeds, effect, "")
        for settings, seeds in ((3, 3), (3, 5), (4, 5), (3, 10), (12, 5))
        for effect in (0, 1, 3)
    ]
    related_settings = [
        (settings, 5, 1, alike)
        for settings, alike in ((3, "twins"), (4, "twins"), (6, "ladder"), (12, "ladder"))
    ] + [(4, 5, 0, "one bad"), (5, 8, 0, "one bad")]
    for size in independent + related_settings:
        print(
            "{:8} {:5} {:11} {:>7} | {:10.1f} {:5.1f} {:5.0f} | {:8.1f} {:5.1f} {:5.1f} | "
            "{:6.0f} {:3.0f}".format(*size, *line(*size)),
            flush=True,
        )
