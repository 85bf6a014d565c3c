"""The original report's claims, tested on these files: each is a set of numbers with the region in
which the claim wants them. They are about its own three settings, adam, noisy_adam and swa; other
settings of a study play no part in them.

A claim holds where every 95 % interval lies inside its region (an intersection-union test: no
correction is needed), does not hold where one lies wholly outside, and cannot be told otherwise.
Intervals are Student's over seeds, of differences paired by seed.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from eval.report import statistics
from eval.report.evidence import (
    INF,
    NAN,
    PERTURBATIONS,
    RANGES,
    TEST_ACCURACY,
    TRAIN_ACCURACY,
    Evidence,
    decide,
    measured,
    part,
    spread,
)
from eval.report.reading import Finetuning
from eval.report.results import SPLITS, Result, grouped
from eval.report.table import FINETUNED, Values

POINT = 0.01  # accuracy: "about one point", "not different"
EPOCHS_ALIKE = 0.5  # "the time does not differ"
ORDER_OF_NORM = (0.5, 2)
BARRIER, ALIKE = 0.1, 1.5  # nats above the chord; largest barrier / smallest
# The original report's epochs, by the kind of a file: what some claims say is a matter of them.
EPOCHS = {"training": 40, "finetune": 15}
NOT_TESTABLE = "not testable at this size"
VERDICTS = ("holds", "does not hold", "cannot tell", NOT_TESTABLE)
SATURATED = 0.9  # of the loss of guessing: lines that all come this close are alike for that reason

METHOD = (
    "Published: one run a method, from its curves (- where it gave no number, † where its own "
    "number is not what it says). Ours: differences are paired by seed; [Student's 95 % interval "
    "over n seeds], uncorrected; (least to most) of pairs of minima, which share members. A claim "
    "holds where all its intervals lie inside what it wants, does not hold where one lies outside "
    "or one of the pairs does, and cannot be told otherwise. Margins (half a point, a point, half "
    "an epoch, 0.1 nats, alike) are constants of eval/report/claims.py. detectable: the smallest "
    "difference that these seeds find with 80 % power. What does not hold here does not hold on "
    "these images, at these sizes. Not testable at this size: what the claim says is a matter of "
    f"epochs, of which the report had {EPOCHS['training']}, and {EPOCHS['finetune']} of "
    "finetuning. Settings with flags of their own, and other methods, play no part here."
)

PATHS = {"path": "BatchNorm interpolated", "path_recomputed": "BatchNorm recomputed"}


def claim(text: str, parts: list[dict], verdict: str = "") -> dict:
    """A claim and what became of it."""
    return {"claim": text, "parts": parts, "verdict": verdict or decide(parts)}


def claims(
    values: Values,
    results: list[Result],
    tuned: list[Result],
    published: dict,
    finetuning: Finetuning | None,
    stands_for: Mapping[str, str] | None = None,
) -> list[dict]:
    """Every claim as {"claim", "parts", "verdict"}.

    `tuned`: the results of tuning; `finetuning`: which one is held against the claims, or None;
    `stands_for`: {setting of ours: the published one that it is compared with}, for those that are
    not named alike.
    """
    if stands_for:
        values, results = as_published(values, results, stands_for)
    evidence = Evidence(values, published)
    known = set(published["headline"]["test_accuracy"])
    results = [result for result in results if known.issuperset(result.settings_of_minima)]
    finetuned = finetuning.fields if finetuning else FINETUNED
    return [
        *claims_on_pretraining(evidence, published, results),
        *claims_on_training_curves(results),
        *claims_on_robustness(evidence),
        *claims_on_lines(results, published),
        *claims_on_finetuning(evidence, finetuned, results),
        claim(
            "The smallest lr is best in finetuning (val accuracy, against the best of the larger "
            "ones; paired by run)",
            [smallest_lr([result for result in tuned if is_like(finetuning, result)])],
        ),
    ]


def as_published(
    values: Values, results: list[Result], names: Mapping[str, str]
) -> tuple[Values, list[Result]]:
    """Values and results, whose settings get their published `names`.

    SystemExit with one line where a setting of a published name is there too.
    """
    there = set(values.frame["setting"])
    for setting, name in names.items():
        if {setting, name} <= there:
            raise SystemExit(f"--stands-for {name}={setting}: {name} is a setting of this study")
    renamed = Values(values.frame.assign(setting=values.frame["setting"].replace(dict(names))))
    return renamed, [
        replace(
            result, settings_of_minima=[names.get(each, each) for each in result.settings_of_minima]
        )
        for result in results
    ]


def is_like(finetuning: Finetuning | None, result: Result) -> bool:
    """Whether `result`, of tuning, is of the same task and file in finetune/, whatever its flags.

    Where there is no finetuning, any finetuning is like it.
    """
    if result.kind != "finetune" or not finetuning:
        return result.kind == "finetune"
    modes = {member.attrs["mode"] for member in finetuning.results}
    return result.task == finetuning.task and result.attrs["mode"] in modes


def testable(results: list[Result], kind: str) -> str:
    """NOT_TESTABLE where files of one kind have fewer epochs than the report's, else ""."""
    epochs = [result.data["epoch"][-1] for result in results if result.kind == kind]
    return NOT_TESTABLE if epochs and min(epochs) < EPOCHS[kind] else ""


def claims_on_pretraining(
    evidence: Evidence, published: dict, results: list[Result]
) -> Iterator[dict]:
    """How accurate the minima are."""
    yield claim(
        "SWA generalizes best, then adam, then noisy_adam (test accuracy)",
        evidence.order(TEST_ACCURACY, "swa", "adam", "noisy_adam"),
    )
    target = published["headline"]["train_accuracy_target"]
    yield claim(
        f"Train accuracy ends at {target:.0%} or above",
        [evidence.level(TRAIN_ACCURACY, setting, (target, INF)) for setting in evidence.settings],
    )
    accuracies = published["headline"]["test_accuracy"].values()
    least, most = min(accuracies), max(accuracies)
    region = (least - POINT / 2, most + POINT / 2)
    yield claim(
        f"Test accuracy is {least:.1%} to {most:.1%}",
        [evidence.level(TEST_ACCURACY, setting, region) for setting in evidence.settings],
        testable(results, "training"),
    )


def claims_on_training_curves(results: list[Result]) -> Iterator[dict]:
    """What loss and accuracy on val do after the minimum of the loss."""
    training = [result for result in results if result.kind == "training"]
    rises, changes = [], []
    for setting, members in grouped(training, lambda result: result.attrs["setting"]).items():
        rise, change = zip(*after_the_minimum(members)) if len(members) > 1 else ((NAN,), (NAN,))
        interval = statistics.t_interval(rise)
        rises.append(part(f"{setting}: rise of val loss (nats)", (0, INF), NAN, *interval))
        interval = statistics.t_interval(change)
        changes.append(part(f"{setting}: change of val accuracy", (-POINT, INF), NAN, *interval))
    yield claim(
        "The loss on unseen images has an early minimum and rises (last epoch against the minimum)",
        rises,
    )
    yield claim("… while accuracy stays flat or better (from that epoch to the last)", changes)


def claims_on_robustness(evidence: Evidence) -> Iterator[dict]:
    """Which setting leads under which perturbation."""
    fields = measured("gaussian_noise", "test", "accuracy", RANGES["gaussian_noise"])
    yield claim(
        "noisy_adam leads under Gaussian noise up to sigma 0.4 (mean accuracy)",
        [evidence.difference(fields, "noisy_adam", other) for other in ("adam", "swa")],
    )
    fields = measured("square_mask", "test", "accuracy", RANGES["square_mask"])
    yield claim(
        "SWA leads on masks, then adam, then noisy_adam (mean accuracy)",
        evidence.order(fields, "swa", "adam", "noisy_adam"),
    )
    fields = measured("fgsm", "test", "accuracy", RANGES["fgsm"])
    yield claim(
        "SWA leads on FGSM (mean accuracy)",
        [evidence.difference(fields, "swa", other) for other in ("adam", "noisy_adam")],
    )
    fields = measured("local_energy", "train", "loss_change", levels="to 0.5")
    yield claim(
        "SWA is flattest (train loss gained under weight noise, sigma <= 0.5, nats)",
        [evidence.difference(fields, "swa", other, (-INF, 0)) for other in ("adam", "noisy_adam")],
    )
    yield claim_that_splits_agree(evidence)


def claim_that_splits_agree(evidence: Evidence) -> dict:
    """Whether settings differ in the same direction on train and on test images."""
    ours, published = [], []
    for source, (a, b) in itertools.product(PERTURBATIONS, evidence.pairs):
        columns = [measured(source, split, "accuracy", RANGES[source]) for split in SPLITS]
        signs = same_sign(*(evidence.difference(fields, a, b) for fields in columns))
        ours.append(signs[0])
        published.append(signs[1])
    agree, contradict, undecided = (ours.count(sign) for sign in (1, -1, 0))
    if contradict:
        verdict = "does not hold"
    else:
        verdict = "holds" if agree and not undecided else "cannot tell"
    words = (
        f"agree {agree}, contradict {contradict}, undecided {undecided}; published: agree "
        f"{published.count(1)} of {len(published)}"
    )
    return claim(
        "Results on train and test images agree (sign of the difference; 4 perturbations, pairs of "
        "its methods)",
        [part(words, (0, INF), n=len(ours))],
        verdict,
    )


def claims_on_lines(results: list[Result], published: dict) -> Iterator[dict]:
    """How far apart independent minima are, and what lies between them."""
    independent = [
        result
        for result in results
        if result.kind == "comparison" and not result.attrs["shared_start"]
    ]
    compared = grouped(independent, lambda result: result.attrs["comparison"])
    distances, lines = compared.get("distance", []), compared.get("line", [])
    yield claim(
        "Minima of independent runs are as far apart as their norms (distance / mean norm, range "
        "over pairs; independent weights of one norm are 1.41 apart, trained or not)",
        [
            spread(
                words,
                [result.data[f"distance/{group}/relative"] for result in distances],
                ORDER_OF_NORM,
            )
            for group, words in (("weights", "convolutions, linear"), ("batchnorm", "BatchNorm"))
        ],
        # BatchNorm's parameters all begin at 1 and 0, and go far in many steps alone.
        testable(results, "training"),
    )
    barriers = {
        path: [barrier(line.data[f"{path}/t"], line.data[f"{path}/train/loss"]) for line in lines]
        for path in PATHS
    }
    chords = [
        barrier(np.array(curve["t"]), np.array(curve["train_loss"]))
        for curve in published["path"].values()
    ]
    was = {"path": np.mean(chords)}
    yield claim(
        "Every straight line crosses a barrier (train loss above the chord, nats, range over "
        "pairs)",
        [
            spread(words, barriers[path], (BARRIER, INF), was.get(path, NAN))
            for path, words in PATHS.items()
        ],
    )
    was = {"path": max(chords) / min(chords)}
    ratios = {
        path: [max(values) / min(values)] if values and min(values) > 0 else []
        for path, values in barriers.items()
    }
    alike, verdict = "… and these lines look alike (largest barrier / smallest)", ""
    if lines and all(map(guesses, lines)):
        alike += "; all of them reach the loss of guessing, where lines cannot differ"
        verdict = "cannot tell"
    parts = [
        spread(words, ratios[path], (0, ALIKE), was.get(path, NAN)) for path, words in PATHS.items()
    ]
    yield claim(alike, parts, verdict)


def guesses(line: Result) -> bool:
    """Whether a line, with BatchNorm recomputed, comes near the loss of guessing."""
    highest = line.data["path_recomputed/train/loss"].max()
    return highest >= SATURATED * np.log(line.attrs["classes"])


def claims_on_finetuning(
    evidence: Evidence, finetuned: dict, results: list[Result]
) -> Iterator[dict]:
    """Which setting's minima finetune better; `finetuned`: the fields of one finetuning."""
    train = finetuned | {"split": "train", "name": "accuracy"}
    test = finetuned | {"split": "test", "name": "accuracy"}
    epochs = finetuned | {"name": "epochs_to_target"}
    distance = finetuned | {"name": "distance_relative", "part": "all"}
    yield claim(
        "All finetuning runs learn the training set (train accuracy at the last epoch, to the "
        "percent)",
        [evidence.level(train, setting, (0.995, INF)) for setting in evidence.settings],
        testable(results, "finetune"),
    )
    alike = (-EPOCHS_ALIKE, EPOCHS_ALIKE)
    yield claim(
        "The time to 95 % train accuracy does not differ (epochs)",
        [evidence.difference(epochs, a, b, alike, 2) for a, b in evidence.pairs],
    )
    yield claim(
        "After finetuning SWA and noisy_adam are about one point above adam (test accuracy)",
        [
            evidence.difference(test, setting, "adam", (0, 2 * POINT))
            for setting in ("swa", "noisy_adam")
        ],
    )
    yield claim(
        "… and not different from each other",
        [evidence.difference(test, "swa", "noisy_adam", (-POINT, POINT))],
    )
    yield claim(
        "noisy_adam generalizes worse than adam, yet finetunes better (test accuracy before, "
        "after)",
        [
            evidence.difference(TEST_ACCURACY, "noisy_adam", "adam", (-INF, 0)),
            evidence.difference(test, "noisy_adam", "adam"),
        ],
    )
    yield claim(
        "SWA moves least in finetuning (distance / start's norm)",
        [
            evidence.difference(distance, "swa", other, (-INF, 0), 4)
            for other in ("adam", "noisy_adam")
        ],
    )


def after_the_minimum(results: list[Result]) -> Iterator[tuple[float, float]]:
    """Of each seed: rise of val loss, change of val accuracy, from its minimum's epoch to the last.

    That epoch is read from the other seeds' mean curve: the lowest of one's own noisy values would
    always lie below the last.
    """
    epochs = min(len(result.data["epoch"]) for result in results)
    losses, accuracies = (
        np.array([result.data[f"val/{name}"][:epochs] for result in results])
        for name in ("loss", "accuracy")
    )
    for k in range(len(results)):
        lowest = np.delete(losses, k, 0).mean(0).argmin()
        yield losses[k, -1] - losses[k, lowest], accuracies[k, -1] - accuracies[k, lowest]


def same_sign(*parts: dict) -> tuple[int, int]:
    """(ours, published) of two differences: 1 where they have one sign, -1 where they have two.

    Ours is 0 where an interval holds 0.
    """
    sure = all(part["low"] > 0 or part["high"] < 0 for part in parts)
    ours, published = (
        int(np.sign(np.prod([part[key] for part in parts]))) if key == "published" or sure else 0
        for key in ("ours", "published")
    )
    return ours, published


def barrier(t: np.ndarray, losses: np.ndarray) -> float:
    """The most by which `losses` (T,) lie above the straight line between their ends."""
    return float(np.max(losses - (1 - t) * losses[0] - t * losses[-1]))


def smallest_lr(tuned: list[Result]) -> dict:
    """Val accuracy at the last epoch with the smallest lr minus that of the best larger lr.

    Paired by run. `tuned`: finetuning of one task and mode.
    """
    best = {
        lr: max((result.data["val/accuracy"][:, -1] for result in members), key=np.mean)
        for lr, members in grouped(tuned, lambda result: result.settings["lr"]).items()
    }
    if len(best) < 2:
        return part("no setting was tried; make tune tries them", (0, INF))
    least = min(best)
    other = max((lr for lr in best if lr != least), key=lambda lr: best[lr].mean())
    count = min(len(best[least]), len(best[other]))
    interval = statistics.t_interval(best[least][:count] - best[other][:count])
    return part(f"lr {least:g} - lr {other:g}", (0, INF), NAN, *interval)
