"""The original report's claims, tested on these files: each is a set of numbers with the region in
which the claim wants them. They are about its own three settings, adam, noisy_adam and swa; other
settings of a study play no part in them.

A claim holds where every 95 % interval lies inside its region (an intersection-union test: no
correction is needed), does not hold where one lies wholly outside, and cannot be told otherwise.
Intervals are Student's over seeds, of differences paired by seed.
"""

import itertools
from collections.abc import Iterator

import numpy as np

from eval.report import statistics
from eval.report.reading import PARTIAL_MEANS, Finetuning
from eval.report.results import SPLITS, Result, grouped
from eval.report.table import FINETUNED, MEASURED, Value, Values

INF = float("inf")
NAN = float("nan")
POINT = 0.01  # accuracy: "about one point", "not different"
EPOCHS_ALIKE = 0.5  # "the time does not differ"
ORDER_OF_NORM = (0.5, 2)
BARRIER, ALIKE = 0.1, 1.5  # nats above the chord; largest barrier / smallest
# The original report's epochs, by the kind of a file: what some claims say is a matter of them.
EPOCHS = {"training": 40, "finetune": 15}
IMAGE_SIZE = 112  # of its images, in pixels
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

PERTURBATIONS = ("gaussian_noise", "square_mask", "fgsm", "local_energy")
# The field `levels` of the mean accuracy under each: over one range, whatever levels were measured.
RANGES = {mean.source: mean.levels for mean in PARTIAL_MEANS if mean.name == "accuracy"}
PATHS = {"path": "BatchNorm interpolated", "path_recomputed": "BatchNorm recomputed"}


def measured(source: str, split: str, name: str, levels: str = "") -> dict[str, str]:
    """The fields of something measured on minima: BatchNorm as stored, no variant."""
    return MEASURED | {"source": source, "split": split, "name": name, "levels": levels}


TEST_ACCURACY = measured("clean", "test", "accuracy")
TRAIN_ACCURACY = measured("clean", "train", "accuracy")


def published_values(published: dict) -> Values:
    """The original report's own numbers as values like ours, from its curves: a minimum a setting.

    Clean accuracy is that of its last curve.
    """
    result = {}

    def add(setting, fields, value):
        # Each is a method as it comes, and so a setting of the same name.
        whose = {"minimum": setting, "method": setting, "setting": setting, "seed": 0}
        result[setting, *fields.values()] = Value(**whose, **fields, value=float(value))

    for setting, accuracy in published["headline"]["test_accuracy"].items():
        add(setting, TEST_ACCURACY, accuracy)
    for source, split in itertools.product(PERTURBATIONS, SPLITS):
        for setting, published_curve in published[source].items():
            levels = np.array(published_curve["levels"])
            if source == "square_mask":  # pixels there, fractions of the side here
                levels = levels / IMAGE_SIZE
            curves = curves_of(published_curve, split)
            add(setting, measured("clean", split, "accuracy"), curves["accuracy"][0])
            for name, curve in curves.items():
                add(setting, measured(source, split, name), curve.mean())
            for mean in PARTIAL_MEANS:
                if mean.source == source:
                    fields = measured(source, split, mean.name, mean.levels)
                    add(setting, fields, mean.of(levels, curves[mean.name]))
    return Values(result.values())


def curves_of(curve: dict, split: str) -> dict[str, np.ndarray]:
    """A published curve by our names, along its levels."""
    accuracy, loss = (np.array(curve[f"{split}_{name}"]) for name in ("accuracy", "loss"))
    return {
        "accuracy": accuracy,
        "loss": loss,
        "loss_change": loss - loss[0],
        "relative": accuracy / accuracy[0],
    }


def part(
    words: str,
    region: tuple[float, float],
    published: float = NAN,
    ours: float = NAN,
    low: float = NAN,
    high: float = NAN,
    n: int = 0,
    digits: int = 3,
    detectable: float = NAN,
    every: bool = False,
) -> dict:
    """One number of a claim: what it is, the open interval in which the claim wants it, the
    published value, ours with its ends.

    `every`: these are the least and the most of numbers that must all lie inside.
    """
    return {
        "part": words,
        "region": region,
        "published": published,
        "ours": ours,
        "low": low,
        "high": high,
        "n": n,
        "digits": digits,
        "detectable": detectable,
        "every": every,
    }


def decide(parts: list[dict]) -> str:
    """holds, does not hold, cannot tell."""
    told = [inside(part) for part in parts]
    if "no" in told:
        return "does not hold"
    return "holds" if told and set(told) == {"yes"} else "cannot tell"


def inside(part: dict) -> str:
    """yes, no, open: does the number lie where the claim wants it?"""
    least, most = part["region"]
    if least < part["low"] and part["high"] < most:
        return "yes"
    outside = part["high"] <= least or most <= part["low"]
    exception = part["every"] and (part["low"] <= least or most <= part["high"])
    return "no" if outside or exception else "open"


def claim(text: str, parts: list[dict], verdict: str = "") -> dict:
    """A claim and what became of it."""
    return {"claim": text, "parts": parts, "verdict": verdict or decide(parts)}


class Evidence:
    """Our values beside the published ones, and the kinds of numbers that claims are made of."""

    def __init__(self, values: Values, published: dict):
        self.ours, self.theirs = values, published_values(published)
        ours = set(values.frame["setting"])
        published_settings = published["headline"]["test_accuracy"]
        self.settings = [setting for setting in published_settings if setting in ours]
        self.pairs = list(itertools.combinations(self.settings, 2))

    def by_seed(self, setting: str, fields: dict) -> dict[int, float]:
        """{seed: our value} of one setting."""
        return self.ours.where(setting=setting, **fields).by("seed")

    def published(self, setting: str, fields: dict) -> float:
        """What the original report found for a setting; NaN where it gave no number."""
        return self.theirs.where(setting=setting, **fields).by("setting").get(setting, NAN)

    def difference(self, fields: dict, a: str, b: str, region=(0, INF), digits=3) -> dict:
        """a - b, paired by seed."""
        first, second = self.by_seed(a, fields), self.by_seed(b, fields)
        with np.errstate(invalid="ignore"):
            paired = np.array([first[seed] - second[seed] for seed in first if seed in second])
        was = self.published(a, fields) - self.published(b, fields)
        if not len(paired) or not np.isfinite(paired).all():
            why = "some never got there" if len(paired) else "not in these files"
            return part(f"{a} - {b} ({why})", region, was, n=len(paired), digits=digits)
        interval = statistics.t_interval(paired, self.ours.where(**fields).step)
        detectable = statistics.detectable_difference(paired)
        why = statistics.no_interval(paired)
        words = f"{a} - {b}" + (f" ({why})" if why else "")
        return part(words, region, was, *interval, digits, detectable)

    def order(self, fields: dict, *settings: str, digits=3) -> list[dict]:
        """Each setting above the next."""
        pairs = itertools.pairwise(settings)
        return [self.difference(fields, a, b, digits=digits) for a, b in pairs]

    def level(self, fields: dict, setting: str, region, digits=3) -> dict:
        """The mean over seeds."""
        values = list(self.by_seed(setting, fields).values())
        step = self.ours.where(**fields).step
        interval = list(statistics.t_interval(values, step)) if values else []
        if values and fields["name"] == "accuracy":  # no accuracy is above 1
            interval[1:3] = np.clip(interval[1:3], 0, 1)
        return part(setting, region, self.published(setting, fields), *interval, digits=digits)


def spread(words: str, values: list[float], region, was: float = NAN) -> dict:
    """Smallest to largest of values that are few or share minima: all of them must lie inside."""
    numbers = (np.mean(values), min(values), max(values), len(values)) if len(values) else ()
    return part(words, region, was, *numbers, digits=2, every=True)


def claims(
    values: Values,
    results: list[Result],
    tuned: list[Result],
    published: dict,
    finetuning: Finetuning | None,
) -> list[dict]:
    """Every claim as {"claim", "parts", "verdict"}.

    `tuned`: the results of tuning; `finetuning`: which one is held against the claims, or None.
    """
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


def lines(claim: dict) -> Iterator[tuple]:
    """A claim as lines of a table: its verdict and what it says, then a line for each part.

    Of a part: ours, published, wanted, whether it is, n, detectable.
    """
    yield (f"{claim['verdict'].capitalize()}: {claim['claim']}",)
    for part in claim["parts"]:
        low, high = part["region"]
        outside = part["published"] <= low or high <= part["published"]
        yield (
            part["part"],
            _number(part, "ours") + _ends(part),
            _number(part, "published") + (" †" if outside else ""),
            _wanted(low, high),
            inside(part),
            part["n"] or "–",
            _number(part, "detectable"),
        )


def in_words(part: dict) -> str:
    """One number of a claim, in a sentence."""
    ours = _number(part, "ours") + _ends(part)
    return f"{part['part']}: {ours}, published {_number(part, 'published')}"


def _number(part: dict, key: str) -> str:
    """One of a part's numbers, at its digits."""
    if np.isnan(part[key]):
        return "–"
    return f"{part[key]:.{part['digits']}f}".replace("-", "−")


def _ends(part: dict) -> str:
    """The interval of a part, or the range of what it is about; nothing where there is none."""
    if not np.isfinite([part["low"], part["high"]]).all():
        return ""
    low, high = _number(part, "low"), _number(part, "high")
    if not part["every"]:
        return f" [{low},\N{NO-BREAK SPACE}{high}]"
    return f" ({low} to {high})" if part["low"] != part["high"] else ""


def _wanted(low: float, high: float) -> str:
    """A region in words."""
    if high == INF:
        words = f"> {low:g}"
    else:
        words = f"< {high:g}" if low == -INF else f"{low:g} to {high:g}"
    return words.replace("-", "−")
