"""The question, answered: does a more robust minimum finetune better?

Which pairs are tested is fixed here, before any data are seen.
"""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from eval.report import cells, reliability, statistics
from eval.report.reading import Finetuning
from eval.report.statistics import Estimate
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
        "share of clean accuracy kept under Gaussian noise",
        MEASURED | {"source": "gaussian_noise", "split": "test", "name": "relative"},
    ),
    "square_mask_test_relative": (
        "share of clean accuracy kept under masked squares",
        MEASURED | {"source": "square_mask", "split": "test", "name": "relative"},
    ),
    "fgsm_test_relative": (
        "share of clean accuracy kept under FGSM",
        MEASURED | {"source": "fgsm", "split": "test", "name": "relative"},
    ),
    # BatchNorm recomputed: with stored statistics most of the loss gained is theirs, which are
    # those of the weights without noise (1.8-2.2 nats in the demo, against 0.3-0.4).
    "local_energy_recomputed_train_loss_change_to_0.5": (
        "train loss gained under weight noise",
        MEASURED
        | {"source": "local_energy", "split": "train", "name": "loss_change", "levels": "to 0.5"}
        | {"batchnorm": "recomputed"},
    ),
}
# How finetuning went: words, more of it, less of it, fields. Accuracy at the last epoch, never the
# best; distance at equal train loss, because at a fixed epoch it is mostly lr and number of steps.
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
    "distance_relative_all_at_equal_loss": (
        "distance travelled / start's norm, at equal train loss",
        "longer",
        "shorter",
        {"name": "distance_relative", "part": "all", "moment": "at equal loss"},
    ),
}
LESS_IS_BETTER = [
    PREDICTORS["local_energy_recomputed_train_loss_change_to_0.5"][0],
    OUTCOMES["epochs_to_target"][0],
    OUTCOMES["distance_relative_all_at_equal_loss"][0],
]
COVARIATES = {
    "clean test accuracy": PREDICTORS["test_accuracy"][1],
    "train loss": MEASURED | {"source": "clean", "split": "train", "name": "loss"},
}
FAMILY = len(PREDICTORS) * len(OUTCOMES)
ALPHA = 0.05
MANY = 5  # settings, beyond which not every two are held beside each other

METHOD = (
    "Fixed in advance; everything else is exploratory. Measured on test images, but for the train "
    "loss gained under weight noise, which is under recomputed BatchNorm. r: Pearson's, after the "
    "mean of each setting is taken from its minima, so that it says whether, of two minima of one "
    "setting, the more robust one finetunes better. A setting is a method, or a method with flags "
    "of its own. Degrees of freedom are those that minima of shared seeds leave (effective, of "
    "minima - settings - 1); Fisher's interval, Student's p, Holm's correction over all pairs. A "
    "verdict must keep its sign, and its uncorrected interval exclude 0, whichever seed is left "
    f"out, and needs a split-half reliability of {reliability.LEAST} where that is known. "
    "Reliability: within settings, from halves of the images and of the random draws. Given: one "
    "covariate, regressed out; description, because the covariate is measured with noise and so "
    "is removed in part only, and clean accuracy is the denominator of the accuracy kept. Pooled: "
    "over all minima as they come, and its range when a setting is left out; it mixes in whatever "
    "else differs between settings, so no verdict rests on it. Where some minima never reach the "
    "target, r is of ranks. How large an effect studies of several sizes find is measured in "
    "docs/statistics.md. These correlations find little: seeds of one setting hardly differ. "
    "Ladders, which set robustness, are the better question."
)


def refuse_duplicates(minima: pd.DataFrame):
    """SystemExit with one line where two of `minima` are of one setting and one seed.

    One of them would be lost, and counted. `minima`: as `Values.minima` gives them.
    """
    twice = minima[minima.duplicated(["setting", "seed"], keep=False)]
    if len(twice):
        setting, seed = twice[["setting", "seed"]].iloc[0]
        same = twice[(twice["setting"] == setting) & (twice["seed"] == seed)]
        raise SystemExit(
            f"{' and '.join(same['minimum'])}: two minima of one setting and seed ({setting}, "
            f"{seed}); give each setting a word of its own"
        )


def predictor_fields(values: Values, predictor: str) -> dict[str, str]:
    """The fields of one of PREDICTORS: BatchNorm as `batchnorm` says."""
    fields = PREDICTORS[predictor][1]
    if fields["source"] in ("clean", "local_energy"):
        return fields
    return fields | {"batchnorm": batchnorm(values)}


def batchnorm(values: Values) -> str:
    """Under which statistics the accuracies kept were measured: "stored", or "recomputed" where the
    study has nothing else.
    """
    kept = values.where(**MEASURED | {"batchnorm": ["stored", "recomputed"]}, name="relative")
    found = set(kept.frame["batchnorm"])
    return "recomputed" if found == {"recomputed"} else "stored"


def outcome_fields(finetuning: Finetuning, outcome: str) -> dict[str, str]:
    """The fields of one of OUTCOMES in one finetuning."""
    return finetuning.fields | OUTCOMES[outcome][-1]


def family(values: Values, finetuning: Finetuning, halves: Values | None = None) -> list[dict]:
    """All PREDICTORS x OUTCOMES of one finetuning, each a dict.

    The correlation within settings (statistics.correlation), Holm's p, partial and pooled
    correlations, `verdict`: rises, falls, or cannot tell, and `why` it cannot be told where p
    alone would. `halves`: values of halves of the images (reliability.values). SystemExit with one
    line where two minima are of one setting and seed.
    """
    minima = values.minima()
    refuse_duplicates(minima)
    halves = Values([]) if halves is None else halves
    reliabilities = {
        predictor: reliability.of(
            halves, predictor_fields(values, predictor), minima["minimum"], minima["setting"]
        )
        for predictor in PREDICTORS
    }
    tests = [
        _test(values, minima, finetuning, outcome, predictor)
        | {"reliability": reliabilities[predictor]}
        for outcome in OUTCOMES
        for predictor in PREDICTORS
    ]
    settings, seeds = list(minima["setting"]), list(minima["seed"])
    columns = [test.pop("columns") for test in tests]
    holm = statistics.holm([test["p"] for test in tests])
    candidates = np.flatnonzero(holm < ALPHA)
    lasting = outlives([columns[k] for k in candidates], settings, seeds)
    for test, p in zip(tests, holm):
        test |= {"holm": float(p), "verdict": "cannot tell", "why": ""}
    for k, lasts in zip(candidates, lasting):
        test = tests[k]
        test["why"] = _why_not(test, lasts)
        if not test["why"]:
            test["verdict"] = "rises" if test["r"] > 0 else "falls"
    return tests


def _why_not(test: dict, lasts: bool) -> str:
    """Why a correlation beyond chance is no verdict; "" where it is one."""
    if test["reliability"] < reliability.LEAST:
        return f"split-half reliability {test['reliability']:.2f}: too much of it is noise"
    return "" if lasts else "it hangs on one seed"


def outlives(columns: list[tuple], settings: Sequence, seeds: Sequence) -> np.ndarray:
    """Whether each of m correlations keeps its sign, and its 95 % interval excludes 0, whichever
    seed is left out (m,).

    `columns`: (x, y) of each, a value a minimum (n,); so are `settings` and `seeds`. Not corrected
    for their number: one bad minimum drives all correlations of a family at once, and without it
    some of them still pass (tests/simulate.py: 17 of 100 studies in place of 49, where it lies 6
    standard deviations off in every column; corrected, 5 seeds would find nothing).
    """
    settings, seeds = np.asarray(settings), np.asarray(seeds)
    result, signs = np.ones(len(columns), bool), []
    for left_out in dict.fromkeys(seeds.tolist()):
        keep = seeds != left_out
        labels = settings[keep], seeds[keep]
        rest = [
            statistics.correlation(np.asarray(x)[keep], np.asarray(y)[keep], *labels)
            for x, y in columns
        ]
        # Without the seed there may be fewer than LEAST_DF, and no p: not known is not sure.
        result &= np.array([test["p"] < ALPHA for test in rest], bool)
        signs.append([np.sign(test["r"]) for test in rest])
    return result & (np.ptp(np.nan_to_num(signs), axis=0) == 0)


def _test(
    values: Values, minima: pd.DataFrame, finetuning: Finetuning, outcome: str, predictor: str
) -> dict:
    """One predictor against one outcome, without Holm's correction; `columns`: what it is of."""
    names, settings, seeds = (list(minima[field]) for field in ("minimum", "setting", "seed"))
    x = values.aligned(names, **predictor_fields(values, predictor))
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
        "columns": (x, y),
    } | statistics.correlation(x, y, settings, seeds)
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
    most = max(test["df_most"] for test in tests) - settings  # a minimum of each less
    if most < statistics.LEAST_DF:
        seeds = int(np.ceil((statistics.LEAST_DF + 1) / settings)) + 2
        plural = "s" if settings > 1 else ""
        return (
            f"These data cannot tell: without any one seed the minima leave {max(most, 0)} degrees "
            f"of freedom and a verdict needs {statistics.LEAST_DF}, which with {settings} "
            f"setting{plural} takes {seeds} seeds or more (SEEDS=0-{seeds - 1})."
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
            why = f"; {test['why']}" if test["why"] else ""
            untold.append(f"{name} ({size}{why})" if np.isfinite(test["r"]) else name)
    if untold:
        told.append(f"cannot tell for {', '.join(untold)}")
    never = max(test["never"] for test in tests)
    lost = f", {never} of which never got there in half of their runs: r of ranks" if never else ""
    counts = cells.least_to_most(test["n"] for test in tests)
    return f"{'; '.join(told)}. n = {counts} minima{lost}."


def lines(tests: list[dict]) -> Iterator[list]:
    """The tests as lines of a table, a group an outcome."""
    yield [
        "",
        "verdict",
        "r within settings [95 %]",
        "n",
        "Holm p",
        "degrees of freedom",
        "reliability",
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
            interval(test["reliability"]),
            *(interval(**test[f"given {words}"]) for words in COVARIATES),
            interval(test["pooled"]) + span,
        ]


def differences(
    values: Values, finetuning: Finetuning | None
) -> dict[str, dict[tuple[str, str], Estimate]]:
    """{quantity: {(a, b): the mean of a - b}} of every predictor and outcome.

    `finetuning` may be None: no outcomes.
    """
    columns = {words: predictor_fields(values, key) for key, (words, _) in PREDICTORS.items()}
    if finetuning:
        columns |= {OUTCOMES[key][0]: outcome_fields(finetuning, key) for key in OUTCOMES}
    return {words: differences_of(values, fields) for words, fields in columns.items()}


def differences_of(values: Values, fields: dict[str, str]) -> dict[tuple[str, str], Estimate]:
    """{(a, b): the mean of setting a - setting b} of one quantity, paired by seed.

    Of many settings each beside the first alone (`pairs`).
    """
    by_seed = {
        setting: dict(zip(frame["seed"], frame["minimum"]))
        for setting, frame in values.minima().groupby("setting", sort=False)
    }
    quantity = values.where(**fields)
    numbers = quantity.by("minimum")
    return {
        (a, b): _difference(numbers, by_seed[a], by_seed[b], quantity.step)
        for a, b in pairs(list(by_seed))
    }


def pairs(settings: list[str]) -> list[tuple[str, str]]:
    """Every two of a few settings; of many each beside the first."""
    if len(settings) > MANY:
        return [(setting, settings[0]) for setting in settings[1:]]
    return list(itertools.combinations(settings, 2))


def _difference(numbers: dict[str, float], a: dict, b: dict, step: float) -> Estimate:
    """The mean difference of minima `a` and `b` {seed: minimum} that share a seed."""
    shared = [seed for seed in a if seed in b]
    both = [[numbers.get(of[seed], np.nan) for seed in shared] for of in (a, b)]
    first, second = (np.array(values, float) for values in both)
    with np.errstate(invalid="ignore"):  # of two that never got there nothing is known
        return statistics.estimate(first - second, step)


def exploratory(values: Values, finetuning: Finetuning) -> list[tuple[Quantity, list[dict]]]:
    """Everything else that was measured on minima against the outcomes of one finetuning.

    [(quantity, [correlation of each outcome])]: no correction, no verdict.
    """
    minima = values.minima()
    names, settings, seeds = (list(minima[field]) for field in ("minimum", "setting", "seed"))
    outcomes = [values.aligned(names, **outcome_fields(finetuning, name)) for name in OUTCOMES]
    outcomes = [statistics.ranks(y) if np.isinf(y).any() else y for y in outcomes]
    tested = [predictor_fields(values, predictor) for predictor in PREDICTORS]
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
