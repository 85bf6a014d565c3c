"""What is measured along a ladder, what is asked of it and how large a change counts: fixed here,
before any data were seen.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from eval.report import cells

LEAST_RUNGS, LEAST_SEEDS = 4, 4  # for a verdict
MATCHED = 1.5  # largest mean train loss of a rung / smallest, beyond which there is a caution
LARGEST_SHARE = 0.9  # of a covariate along the rungs, beyond which nothing is said given it
LEAST_DISTANCE = 0.05  # of an average from its last iterate / norm; nearer is the same minimum
ALIKE = 0.5  # two ladders agree within half of their mean effect per unit


@dataclass(frozen=True)
class Measure:
    """A measure of robustness. BatchNorm: recomputed where the study has that, else stored."""

    key: str
    words: str
    fields: dict[str, str]  # which values it is, but for BatchNorm
    more_is_robust: bool
    against: str = ""  # minima are robust to this
    shown: str = ""  # what its axis shows


@dataclass(frozen=True)
class Outcome:
    """An outcome of finetuning, and its margin: a smaller change is none in practice."""

    key: str
    words: str
    fields: dict[str, str]  # which values of a finetuning it is
    margin: float
    more_is_better: bool
    scale: float  # from the outcome to `unit`
    unit: str
    relative: bool = False  # changes are fractions of the ladder's mean
    shown: str = ""  # what its axis shows

    def size(self, *numbers: float) -> str:
        """A change in words, 6 points; with its ends 6.0 [4.1, 7.9] points; a dash for NaN."""
        scaled = [value * self.scale for value in numbers]
        if not np.isfinite(scaled[0]):
            return "–"
        if len(scaled) > 1:
            return f"{cells.with_ends(*scaled)} {self.unit}"
        number = f"{scaled[0]:.3g}".replace("-", "−")
        return f"{number} {self.unit.removesuffix('s') if number == '1' else self.unit}"


CURVE = {"kind": "passport", "variant": "", "statistic": ""}
# Losses and levels, not the accuracy kept, which is largely its own denominator, clean accuracy.
MEASURES = (
    Measure(
        "gaussian_noise",
        "loss gained under Gaussian noise (test, nats, mean over sigma 0 to 0.2)",
        CURVE
        | {"source": "gaussian_noise", "split": "test", "name": "loss_change", "levels": "to 0.2"},
        more_is_robust=False,
        against="Gaussian noise",
        shown="loss gained, nats",
    ),
    Measure(
        "square_mask",
        "side of the masked square that costs one nat (test, fraction of the image's)",
        CURVE | {"source": "square_mask", "split": "test", "name": "one_nat_level", "levels": ""},
        more_is_robust=True,
        against="masked squares",
        shown="side that costs a nat",
    ),
    Measure(
        "fgsm",
        "loss gained under FGSM (test, nats, mean over epsilon 0 to 0.004)",
        CURVE | {"source": "fgsm", "split": "test", "name": "loss_change", "levels": "to 0.004"},
        more_is_robust=False,
        against="FGSM",
        shown="loss gained, nats",
    ),
    Measure(
        "local_energy",
        "loss gained under weight noise (train, nats, mean over sigma 0 to 0.5)",
        CURVE
        | {"source": "local_energy", "split": "train", "name": "loss_change", "levels": "to 0.5"},
        more_is_robust=False,
        against="weight noise",
        shown="loss gained, nats",
    ),
)
# Margins. Accuracies: in the pilot, seeds other than the demo's, a ladder of lr moved test accuracy
# by 44 points, and four seeds of a ladder that moves nothing place it within 6: a seventh of what
# robustness could do, and the smallest null that the demo can show. What is forgotten is weighed
# against what is learnt, so its margin is the same. Epochs: train accuracy is measured once an
# epoch. Distance: 5 % of itself; the pilot's ladders moved it by 1 to 2 %.
OUTCOMES = (
    Outcome(
        "test_accuracy",
        "test accuracy after finetuning",
        {"split": "test", "name": "accuracy"},
        margin=0.06,
        more_is_better=True,
        scale=100,
        unit="points",
        shown="fraction",
    ),
    Outcome(
        "epochs_to_target",
        "epochs to the target on train",
        {"name": "epochs_to_target"},
        margin=1,
        more_is_better=False,
        scale=1,
        unit="epochs",
        shown="epochs",
    ),
    Outcome(
        "distance_at_equal_loss",
        "distance travelled / start's norm, at equal train loss",
        {"name": "distance_relative", "part": "all", "moment": "at equal loss"},
        margin=0.05,
        more_is_better=False,
        scale=100,
        unit="%",
        shown="of the ladder's mean",
        relative=True,
    ),
    Outcome(
        "forgetting",
        "source accuracy lost in finetuning",
        {"name": "forgetting", "batchnorm": "recomputed"},
        margin=0.06,
        more_is_better=False,
        scale=100,
        unit="points",
        shown="fraction",
    ),
)


def with_margins(margins: Mapping[str, float]) -> tuple[Outcome, ...]:
    """OUTCOMES, with the margins {key: margin} that a study fixed for itself."""
    return tuple(replace(each, margin=margins.get(each.key, each.margin)) for each in OUTCOMES)


TRAIN_LOSS = Measure(
    "train_loss",
    "train loss (nats)",
    CURVE | {"source": "clean", "split": "train", "name": "loss"},
    more_is_robust=False,
)
CLEAN_ACCURACY = Measure(
    "clean_accuracy",
    "clean test accuracy",
    CURVE | {"source": "clean", "split": "test", "name": "accuracy"},
    more_is_robust=True,
)
# {words: (column, scale)}: losses differ by factors, so they are compared as logarithms.
COVARIATES = {
    "log train loss": (TRAIN_LOSS, np.log),
    "clean test accuracy": (CLEAN_ACCURACY, np.asarray),
}
