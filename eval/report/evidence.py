"""What a claim is weighed with: the original report's own numbers as values like ours, and parts,
numbers with the region in which a claim wants them.

    evidence = Evidence(values, published)
    evidence.difference(TEST_ACCURACY, "swa", "adam")
"""

import itertools

import numpy as np

from eval.report import statistics
from eval.report.reading import PARTIAL_MEANS
from eval.report.results import SPLITS
from eval.report.table import MEASURED, Value, Values

INF = float("inf")
NAN = float("nan")
IMAGE_SIZE = 112  # of the original report's images, in pixels
PERTURBATIONS = ("gaussian_noise", "square_mask", "fgsm", "local_energy")
# The field `levels` of the mean accuracy under each: over one range, whatever levels were measured.
RANGES = {mean.source: mean.levels for mean in PARTIAL_MEANS if mean.name == "accuracy"}


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
