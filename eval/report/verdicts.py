"""The question, answered: does a more robust minimum finetune better? Which pairs are tested is fixed here, before any data are seen."""

import itertools

import numpy as np

from eval.report import statistics

# Stored BatchNorm; test split, but for local energy, which is about train loss: more of it is less robust.
PREDICTORS = {
    "test_accuracy": "clean test accuracy",
    "gaussian_noise_test_relative": "accuracy kept under Gaussian noise",
    "square_mask_test_relative": "accuracy kept under masked squares",
    "fgsm_test_relative": "accuracy kept under FGSM",
    "local_energy_train_loss_change_to_0.5": "train loss gained under weight noise",
}
# At the last epoch, never the best.
OUTCOMES = {
    "test_accuracy": ("test accuracy after finetuning", "higher", "lower"),
    "epochs_to_target": ("epochs to the target on train", "more", "fewer"),
    "distance_relative_all": ("distance travelled / start's norm", "longer", "shorter"),
}
COVARIATES = {"test_accuracy": "clean test accuracy", "train_loss": "train loss"}
FAMILY = len(PREDICTORS) * len(OUTCOMES)
ALPHA = 0.05


def column(rows, name):
    """The values (n,) of a column, NaN where a row lacks it."""
    return np.array([row.get(name, np.nan) for row in rows], float)


def family(rows, mode):
    """All PREDICTORS x OUTCOMES of one finetuning mode as dicts: the correlation within methods (statistics.correlation), Holm's p, what was needed
    to see one, partial and pooled correlations, and `verdict`: rises, falls, or cannot tell."""
    methods, seeds = [row["method"] for row in rows], [row["seed"] for row in rows]
    found = []
    for outcome, predictor in (
        (outcome, predictor) for outcome in OUTCOMES for predictor in PREDICTORS
    ):
        x, y = column(rows, predictor), column(rows, f"{mode}_{outcome}")
        never = int(np.isinf(y[~np.isnan(x)]).sum())  # infinitely late is a rank, not a number
        scale = statistics.ranks if never else np.asarray
        x, y = scale(x), scale(y)
        test = {
            "mode": mode,
            "outcome": outcome,
            "predictor": predictor,
            "never": never,
        } | statistics.correlation(x, y, methods, seeds)
        test["detectable"] = (
            statistics.detectable_correlation(test["df"], FAMILY)
            if test["df_most"] >= statistics.LEAST_DF
            else np.nan
        )
        for name, words in COVARIATES.items():
            partial = (
                statistics.correlation(x, y, methods, seeds, scale(column(rows, name)))
                if name != predictor
                else {}
            )
            test[f"given {words}"] = {key: partial.get(key, np.nan) for key in ("r", "low", "high")}
        keep = ~np.isnan(x + y)
        test["pooled"], test["pooled_without"] = statistics.pooled(
            x[keep], y[keep], np.array(methods)[keep]
        )
        found.append(test)
    for test, p in zip(found, statistics.holm([test["p"] for test in found])):
        test["holm"] = float(p)
        test["verdict"] = "cannot tell" if not p < ALPHA else "rises" if test["r"] > 0 else "falls"
    return found


def interval(r, low=np.nan, high=np.nan, digits=2):
    """`r` [low, high] in words; the ends only where there are any."""
    ends = (
        f" [{low:+.{digits}f},\N{NO-BREAK SPACE}{high:+.{digits}f}]"
        if np.isfinite([low, high]).all()
        else ""
    )
    return f"{r:+.{digits}f}{ends}".replace("-", "−") if np.isfinite(r) else "–"


METHOD = (
    "Fixed in advance; everything else is exploratory. Measured on test images, but for the train loss gained under weight noise. r: Pearson's, after the "
    "mean of each method is taken from its minima, so that it says whether, of two minima of one method, the more robust one finetunes better. Its degrees of freedom are those that minima of shared seeds leave "
    "(effective, of minima - methods - 1); Fisher's interval, Student's p, Holm's correction over all pairs. detectable: the |r| that would have been "
    "found with 80 % power. Given: one covariate, regressed out. Pooled: over all minima as they come, and its range when a method is left out; it mixes "
    "in whatever else differs between methods, so no verdict rests on it. Where some minima never reach the target, r is of ranks."
)


def answer(tests, rows):
    """One line: how many of the pairs fixed in advance hold, and what is missing where none could be tested."""
    told = sum(test["verdict"] != "cannot tell" for test in tests)
    if (most := max(test["df_most"] for test in tests)) < statistics.LEAST_DF:
        methods = len({row["method"] for row in rows})
        seeds = int(np.ceil((statistics.LEAST_DF + 1) / methods)) + 1
        return (
            f"These data cannot tell: the minima leave {max(most, 0)} degrees of freedom and a verdict needs {statistics.LEAST_DF}, which with {methods} "
            f'method{"s" * (methods > 1)} takes {seeds} seeds or more (SEEDS="{" ".join(map(str, range(seeds)))}").'
        )
    start = "These data cannot tell. " if not told else ""
    return f"{start}{told} of the {len(tests)} pairs of robustness and finetuning that were fixed in advance go together beyond chance (Holm, {ALPHA})."


def sentence(tests):
    """What these data show about each predictor of one outcome."""
    _, more, less = OUTCOMES[tests[0]["outcome"]]
    words, untold = [], []
    for test in tests:
        name, size = (
            PREDICTORS[test["predictor"]],
            f"r = {interval(test['r'], test['low'], test['high'])}",
        )
        if test["verdict"] == "cannot tell":
            untold.append(f"{name} ({size})" if np.isfinite(test["r"]) else name)
        else:
            words.append(
                f"{more if test['r'] > 0 else less} with more {name} ({size}, p = {test['holm']:.2g})"
            )
    if untold:
        words.append(f"cannot tell for {', '.join(untold)}")
    never = max(test["never"] for test in tests)
    lost = f", {never} of which never got there in half of their runs: r of ranks" if never else ""
    counts = sorted({test["n"] for test in tests})
    return f"{'; '.join(words)}. n = {' to '.join(map(str, counts[:: max(1, len(counts) - 1)]))} minima{lost}."


def lines(tests):
    """The tests as lines of a table, a group an outcome."""
    yield [
        "",
        "verdict",
        "r within methods [95 %]",
        "n",
        "Holm p",
        "degrees of freedom",
        "detectable |r|",
        *(f"r given {name} [95 %]" for name in COVARIATES.values()),
        "r pooled (without one method)",
    ]
    for k, test in enumerate(tests):
        if k % len(PREDICTORS) == 0:
            yield [OUTCOMES[test["outcome"]][0].capitalize()]
        others = [other for other in test["pooled_without"] if np.isfinite(other)]
        span = f" ({interval(min(others))} to {interval(max(others))})" if len(others) > 1 else ""
        yield [
            PREDICTORS[test["predictor"]],
            test["verdict"],
            interval(test["r"], test["low"], test["high"]),
            test["n"],
            f"{test['holm']:.3f}" if np.isfinite(test["p"]) else "–",
            f"{test['df']:.1f} of {test['df_most']}" if np.isfinite(test["df"]) else "–",
            f"{test['detectable']:.2f}" if np.isfinite(test["detectable"]) else "–",
            *(interval(**test[f"given {name}"]) for name in COVARIATES.values()),
            interval(test["pooled"]) + span,
        ]


def differences(rows, mode):
    """Lines of a table: every pair of methods, the difference of each predictor and outcome paired by seed, with Student's 95 % interval."""
    columns = PREDICTORS | {f"{mode}_{outcome}": words for outcome, (words, *_) in OUTCOMES.items()}
    by_method = {row["method"]: {} for row in rows}
    for row in rows:
        by_method[row["method"]][row["seed"]] = row
    yield ["", *columns.values(), "n"]
    for a, b in itertools.combinations(by_method, 2):
        seeds = [seed for seed in by_method[a] if seed in by_method[b]]
        with np.errstate(
            invalid="ignore"
        ):  # two that never got there differ by nothing that is known
            paired = [
                np.subtract(
                    *(
                        column([by_method[method][seed] for seed in seeds], name)
                        for method in (a, b)
                    )
                )
                for name in columns
            ]
        yield [
            f"{a} - {b}",
            *(
                interval(*statistics.t_interval(values)[:3], digits=4 if "distance" in name else 3)
                if len(values) and np.isfinite(values).all()
                else "–"
                for name, values in zip(columns, paired)
            ),
            len(seeds),
        ]


def exploratory(rows, mode, columns):
    """Every other numeric column against the outcomes of `mode`: [(column, [correlation of each outcome])], no correction, no verdict."""
    methods, seeds = [row["method"] for row in rows], [row["seed"] for row in rows]
    outcomes = [
        statistics.ranks(y) if np.isinf(y).any() else y
        for y in (column(rows, f"{mode}_{outcome}") for outcome in OUTCOMES)
    ]
    found = [
        (name, [statistics.correlation(column(rows, name), y, methods, seeds) for y in outcomes])
        for name in columns
        if name not in PREDICTORS
    ]
    return [(name, tests) for name, tests in found if any(np.isfinite(test["r"]) for test in tests)]
