"""The question, answered: does a more robust minimum finetune better?

Which pairs are tested is fixed here, before any data are seen.
"""

import itertools
from collections.abc import Iterator

import numpy as np
import pandas as pd

from eval.report import statistics
from eval.report.reading import Finetuning
from eval.report.table import MEASURED, Quantity, Values

# The robustness of a minimum, by its key in results.json: words, and the fields that say which
# values they are. On test images, but for local energy, which is about train loss: more of it is
# less robust.
PREDICTORS = {
    "test_accuracy": (
        "clean test accuracy",
        MEASURED | {"source": "clean", "split": "test", "name": "accuracy"},
    ),
    "gaussian_noise_test_relative": (
        "accuracy kept under Gaussian noise",
        MEASURED | {"source": "gaussian_noise", "split": "test", "name": "relative"},
    ),
    "square_mask_test_relative": (
        "accuracy kept under masked squares",
        MEASURED | {"source": "square_mask", "split": "test", "name": "relative"},
    ),
    "fgsm_test_relative": (
        "accuracy kept under FGSM",
        MEASURED | {"source": "fgsm", "split": "test", "name": "relative"},
    ),
    "local_energy_train_loss_change_to_0.5": (
        "train loss gained under weight noise",
        MEASURED
        | {"source": "local_energy", "split": "train", "name": "loss_change", "levels": "to 0.5"},
    ),
}
# How finetuning went, at the last epoch, never the best: words, more of it, less of it, fields.
OUTCOMES = {
    "test_accuracy": (
        "test accuracy after finetuning",
        "higher",
        "lower",
        {"split": "test", "name": "accuracy"},
    ),
    "epochs_to_target": (
        "epochs to the target on train",
        "more",
        "fewer",
        {"name": "epochs_to_target"},
    ),
    "distance_relative_all": (
        "distance travelled / start's norm",
        "longer",
        "shorter",
        {"name": "distance_relative", "part": "all"},
    ),
}
COVARIATES = {
    "clean test accuracy": PREDICTORS["test_accuracy"][1],
    "train loss": MEASURED | {"source": "clean", "split": "train", "name": "loss"},
}
FAMILY = len(PREDICTORS) * len(OUTCOMES)
ALPHA = 0.05

METHOD = (
    "Fixed in advance; everything else is exploratory. Measured on test images, but for the train "
    "loss gained under weight noise. r: Pearson's, after the mean of each setting is taken from "
    "its minima, so that it says whether, of two minima of one setting, the more robust one "
    "finetunes better. A setting is a method, or a method with flags of its own. Degrees of "
    "freedom are those that minima of shared seeds leave (effective, of minima - settings - 1); "
    "Fisher's interval, Student's p, Holm's correction over all pairs. "
    "detectable: the |r| that would have been found with 80 % power. Given: one covariate, "
    "regressed out. Pooled: over all minima as they come, and its range when a setting is left "
    "out; it mixes in whatever else differs between settings, so no verdict rests on it. Where "
    "some minima never reach the target, r is of ranks."
)


def outcome_fields(finetuning: Finetuning, outcome: str) -> dict[str, str]:
    """The fields of one of OUTCOMES in one finetuning."""
    return finetuning.fields | OUTCOMES[outcome][-1]


def family(values: Values, finetuning: Finetuning) -> list[dict]:
    """All PREDICTORS x OUTCOMES of one finetuning, each a dict.

    The correlation within settings (statistics.correlation), Holm's p, what was needed to see one,
    partial and pooled correlations, and `verdict`: rises, falls, or cannot tell.
    """
    minima = values.minima()
    tests = [
        _test(values, minima, finetuning, outcome, predictor)
        for outcome in OUTCOMES
        for predictor in PREDICTORS
    ]
    for test, p in zip(tests, statistics.holm([test["p"] for test in tests])):
        test["holm"] = float(p)
        if not p < ALPHA:
            test["verdict"] = "cannot tell"
        else:
            test["verdict"] = "rises" if test["r"] > 0 else "falls"
    return tests


def _test(
    values: Values, minima: pd.DataFrame, finetuning: Finetuning, outcome: str, predictor: str
) -> dict:
    """One predictor against one outcome, without Holm's correction."""
    names, settings, seeds = (list(minima[field]) for field in ("minimum", "setting", "seed"))
    x = values.aligned(names, **PREDICTORS[predictor][1])
    y = values.aligned(names, **outcome_fields(finetuning, outcome))
    never = int(np.isinf(y[~np.isnan(x)]).sum())
    scale = statistics.ranks if never else np.asarray  # infinitely late is a rank, not a number
    x, y = scale(x), scale(y)
    test = {
        "task": finetuning.task,
        "mode": finetuning.mode,
        "outcome": outcome,
        "predictor": predictor,
        "never": never,
    } | statistics.correlation(x, y, settings, seeds)
    testable = test["df_most"] >= statistics.LEAST_DF
    test["detectable"] = (
        statistics.detectable_correlation(test["df"], FAMILY) if testable else np.nan
    )
    for words, fields in COVARIATES.items():
        partial = {}
        if fields != PREDICTORS[predictor][1]:
            covariate = scale(values.aligned(names, **fields))
            partial = statistics.correlation(x, y, settings, seeds, covariate)
        test[f"given {words}"] = {key: partial.get(key, np.nan) for key in ("r", "low", "high")}
    keep = ~np.isnan(x + y)
    test["pooled"], test["pooled_without"] = statistics.pooled(
        x[keep], y[keep], np.array(settings)[keep]
    )
    return test


def interval(r: float, low: float = np.nan, high: float = np.nan, digits: int = 2) -> str:
    """`r` [low, high] in words; the ends only where there are any."""
    if not np.isfinite(r):
        return "–"
    text = f"{r:+.{digits}f}"
    if np.isfinite([low, high]).all():
        text += f" [{low:+.{digits}f},\N{NO-BREAK SPACE}{high:+.{digits}f}]"
    return text.replace("-", "−")


def answer(tests: list[dict], settings: int) -> str:
    """One line: how many of the pairs that were fixed in advance hold.

    Where none could be tested, what is missing; `settings` is their number.
    """
    most = max(test["df_most"] for test in tests)
    if most < statistics.LEAST_DF:
        seeds = int(np.ceil((statistics.LEAST_DF + 1) / settings)) + 1
        plural = "s" if settings > 1 else ""
        return (
            f"These data cannot tell: the minima leave {max(most, 0)} degrees of freedom and a "
            f"verdict needs {statistics.LEAST_DF}, which with {settings} setting{plural} takes "
            f"{seeds} seeds or more (SEEDS=0-{seeds - 1})."
        )
    told = sum(test["verdict"] != "cannot tell" for test in tests)
    start = "" if told else "These data cannot tell. "
    return (
        f"{start}{told} of the {len(tests)} pairs of robustness and finetuning that were fixed in "
        f"advance go together beyond chance (Holm, {ALPHA})."
    )


def sentence(tests: list[dict]) -> str:
    """What these data show about each predictor of one outcome."""
    _, more, less, _ = OUTCOMES[tests[0]["outcome"]]
    told, untold = [], []
    for test in tests:
        name = PREDICTORS[test["predictor"]][0]
        size = f"r = {interval(test['r'], test['low'], test['high'])}"
        if test["verdict"] != "cannot tell":
            direction = more if test["r"] > 0 else less
            told.append(f"{direction} with more {name} ({size}, p = {test['holm']:.2g})")
        else:
            untold.append(f"{name} ({size})" if np.isfinite(test["r"]) else name)
    if untold:
        told.append(f"cannot tell for {', '.join(untold)}")
    never = max(test["never"] for test in tests)
    lost = f", {never} of which never got there in half of their runs: r of ranks" if never else ""
    counts = dict.fromkeys((min(test["n"] for test in tests), max(test["n"] for test in tests)))
    return f"{'; '.join(told)}. n = {' to '.join(map(str, counts))} minima{lost}."


def lines(tests: list[dict]) -> Iterator[list]:
    """The tests as lines of a table, a group an outcome."""
    yield [
        "",
        "verdict",
        "r within settings [95 %]",
        "n",
        "Holm p",
        "degrees of freedom",
        "detectable |r|",
        *(f"r given {words} [95 %]" for words in COVARIATES),
        "r pooled (without one setting)",
    ]
    for k, test in enumerate(tests):
        if k % len(PREDICTORS) == 0:
            yield [OUTCOMES[test["outcome"]][0].capitalize()]
        others = [other for other in test["pooled_without"] if np.isfinite(other)]
        span = f" ({interval(min(others))} to {interval(max(others))})" if len(others) > 1 else ""
        yield [
            PREDICTORS[test["predictor"]][0],
            test["verdict"],
            interval(test["r"], test["low"], test["high"]),
            test["n"],
            f"{test['holm']:.3f}" if np.isfinite(test["p"]) else "–",
            f"{test['df']:.1f} of {test['df_most']}" if np.isfinite(test["df"]) else "–",
            f"{test['detectable']:.2f}" if np.isfinite(test["detectable"]) else "–",
            *(interval(**test[f"given {words}"]) for words in COVARIATES),
            interval(test["pooled"]) + span,
        ]


def differences(values: Values, finetuning: Finetuning | None) -> Iterator[list]:
    """Lines of a table: every pair of settings, the difference of each predictor and outcome.

    Paired by seed, with Student's 95 % interval. `finetuning` may be None: no outcomes.
    """
    columns = list(PREDICTORS.values())
    for outcome, (words, *_) in OUTCOMES.items():
        columns.append((words, outcome_fields(finetuning, outcome) if finetuning else None))
    yield ["", *(words for words, _ in columns), "n"]
    numbers = [values.where(**fields).by("minimum") if fields else {} for _, fields in columns]
    digits = [4 if fields and fields["name"] == "distance_relative" else 3 for _, fields in columns]
    by_seed = {
        setting: dict(zip(frame["seed"], frame["minimum"]))
        for setting, frame in values.minima().groupby("setting", sort=False)
    }
    for a, b in itertools.combinations(by_seed, 2):
        pairs = [(by_seed[a][seed], by_seed[b][seed]) for seed in by_seed[a] if seed in by_seed[b]]
        cells = [_difference(column, pairs, places) for column, places in zip(numbers, digits)]
        yield [f"{a} - {b}", *cells, len(pairs)]


def _difference(numbers: dict[str, float], pairs: list[tuple[str, str]], digits: int) -> str:
    """The mean difference between paired minima, with its interval, in words."""
    both = [[numbers.get(minimum, np.nan) for minimum in pair] for pair in pairs]
    if not both or not np.isfinite(both).all():
        return "–"  # of two that never got there nothing is known
    mean, low, high, _ = statistics.t_interval(-np.diff(both)[:, 0])
    return interval(mean, low, high, digits)


def exploratory(values: Values, finetuning: Finetuning) -> list[tuple[Quantity, list[dict]]]:
    """Everything else that was measured on minima against the outcomes of one finetuning.

    [(quantity, [correlation of each outcome])]: no correction, no verdict.
    """
    minima = values.minima()
    names, settings, seeds = (list(minima[field]) for field in ("minimum", "setting", "seed"))
    outcomes = [values.aligned(names, **outcome_fields(finetuning, name)) for name in OUTCOMES]
    outcomes = [statistics.ranks(y) if np.isinf(y).any() else y for y in outcomes]
    tested = [fields for _, fields in PREDICTORS.values()]
    result = []
    for quantity in values.where(kind=["training", "passport"], statistic="").quantities():
        fields = quantity.fields
        if fields["name"] == "largest_level" or any(
            wanted.items() <= fields.items() for wanted in tested
        ):
            continue
        x = np.array(
            [getattr(quantity.by_minimum.get(name), "value", np.nan) for name in names], float
        )
        tests = [statistics.correlation(x, y, settings, seeds) for y in outcomes]
        if any(np.isfinite(test["r"]) for test in tests):
            result.append((quantity, tests))
    return result
