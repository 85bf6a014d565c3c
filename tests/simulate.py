"""What the report's statistics do on studies whose truth is known, at more sizes than the tests
have time for: python -m tests.simulate

Each line: studies of 5 predictors and 3 outcomes with independent effects of the method (0, 1, 3
standard deviations of the noise, in turn) and an effect of the seed that its methods share. Per
100: null studies with any verdict after Holm, with our degrees of freedom and with the plain
minima - methods - 1; intervals that hold the truth (0; 0.6; 0 given a covariate); studies in which
r = 0.8 is found.
"""

import numpy as np
from scipy import stats as scipy_stats

from eval.report import statistics, verdicts


def simulated(rng, methods, seeds, method_effect, seed_effect=1.0, r=0.0, twins=False):
    """(values (minima, 8), methods (minima,), seeds (minima,)) of one study.

    Values are those of 5 predictors and 3 outcomes: independent effects of the method, an effect of
    the seed that all its methods share, noise of std 1; column 0 and column 5 correlate with `r`
    within methods. `twins`: the last method is nearly the first, as an average is to its last
    iterate.
    """

    def draw(*shape):
        values = rng.normal(size=(*shape, 8))
        values[..., 5] = r * values[..., 0] + np.sqrt(1 - r * r) * values[..., 5]
        return values

    noise = draw(methods, seeds)
    if twins:
        noise[-1] = np.sqrt(0.9) * noise[0] + np.sqrt(0.1) * noise[-1]
    values = noise + seed_effect * draw(1, seeds) + method_effect * rng.normal(size=(methods, 1, 8))
    return (
        values.reshape(-1, 8),
        np.repeat(np.arange(methods), seeds),
        np.tile(np.arange(seeds), methods),
    )


def line(methods, seeds, seed_effect, twins, trials=300):
    """The numbers of one line: per 100 studies, each of the things that the module names."""
    rng, counts = np.random.default_rng(0), []
    for k in range(trials):
        counts.append(study(rng, methods, seeds, (0, 1, 3)[k % 3], seed_effect, twins))
    return 100 * np.mean(counts, 0)


def study(rng, *size):
    """Whether one study made each mistake, or found each truth; `size` as `simulated` takes it."""
    *shape, twins = size
    values, *labels = simulated(rng, *shape, twins=twins)
    tests = [
        statistics.correlation(values[:, x], values[:, y], *labels)
        for x in range(5)
        for y in range(5, 8)
    ]
    given = statistics.correlation(values[:, 0], values[:, 5], *labels, values[:, 1])
    some, strong = (related(rng, shape, r, twins) for r in (0.6, 0.8))
    testable = given["df_most"] >= statistics.LEAST_DF
    return [
        (statistics.holm([test["p"] for test in tests]) < verdicts.ALPHA).any(),
        (statistics.holm([plain_p(test) for test in tests]) < verdicts.ALPHA).any(),
        np.mean([test["low"] <= 0 <= test["high"] for test in tests]),
        some["low"] <= 0.6 <= some["high"],
        given["low"] <= 0 <= given["high"] if testable else np.nan,
        strong["p"] < verdicts.ALPHA / verdicts.FAMILY,
    ]


def related(rng, shape, r, twins):
    """The correlation of columns 0 and 5 in a new study, where it is `r`."""
    values, *labels = simulated(rng, *shape, r, twins)
    return statistics.correlation(values[:, 0], values[:, 5], *labels)


def plain_p(test):
    """Student's p with minima - methods - 1 degrees of freedom."""
    t = abs(test["r"]) * np.sqrt(test["df_most"] / (1 - test["r"] ** 2))
    return 2 * scipy_stats.t.sf(t, test["df_most"])


if __name__ == "__main__":
    print(
        "methods seeds seed-effect twins | false: ours plain | covered: 0, 0.6, 0 given | "
        "found: 0.8"
    )
    for setting in [
        (methods, seeds, effect, False)
        for methods, seeds in ((3, 3), (3, 5), (4, 5), (3, 10))
        for effect in (0, 1, 3)
    ] + [(3, 5, 1, True), (4, 5, 1, True)]:
        print(
            "{:7} {:5} {:11} {:5} | {:11.1f} {:5.0f} | {:8.1f} {:5.1f} {:5.1f} | {:6.0f}".format(
                *setting, *line(*setting)
            ),
            flush=True,
        )
