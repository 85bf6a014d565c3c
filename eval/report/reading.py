"""From the files of a study to the values of its table: what each dataset is, in fields and words.

Of pretraining, when it reached its target; of a passport, clean numbers, the summaries of each
perturbation and scalars; of finetuning, what it came to at its last epoch. Comparisons are of two
minima: they have no row in the table, and sections read them as they are.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from eval.report import statistics
from eval.report.results import SPLITS, Result, grouped, natural
from eval.report.table import FINETUNED, Value, Values

# Datasets of clean images, and of a perturbation's summary: {dataset: (name, words)}.
CLEAN = {"loss": ("loss", "loss (nats per image)"), "accuracy": ("accuracy", "accuracy")}
SUMMARIES = {
    "mean_accuracy": ("accuracy", "accuracy, mean over the levels"),
    "mean_loss": ("loss", "loss (nats per image), mean over the levels"),
    "mean_accuracy_relative": ("relative", "accuracy / clean accuracy, mean over the levels"),
    "mean_loss_change": (
        "loss_change",
        "change of loss from clean (nats per image), mean over the levels",
    ),
    "half_accuracy_level": (
        "half_accuracy_level",
        "level at which accuracy is half of clean (inf: beyond the largest)",
    ),
    "one_nat_level": (
        "one_nat_level",
        "level at which loss is one nat above clean (inf: beyond the largest)",
    ),
}


@dataclass(frozen=True)
class PartialMean:
    """The mean of a curve over the levels from 0 to `largest`, which a verdict or claim is about.

    By trapezoids, so that it does not depend on where levels lie close. Studies are compared over
    one range: a curve that was not measured at both of its ends has no such mean.
    """

    source: str  # the measurement
    name: str  # of the curve
    largest: float
    words: str
    tolerance: float = 0  # by how much the last level may differ from `largest`

    @property
    def levels(self) -> str:
        """The field `levels` of its values."""
        return f"to {self.largest:g}"

    def of(self, levels: np.ndarray, curve: np.ndarray) -> float:
        """The mean of `curve` (L,) at `levels` (L,); NaN where an end was not measured."""
        inside = levels <= self.largest + self.tolerance + 1e-9
        ends = levels[inside][[0, -1]] if inside.any() else np.full(2, np.inf)
        if ends[0] != 0 or ends[1] < self.largest - self.tolerance - 1e-9:
            return np.nan
        return float(np.trapezoid(curve[inside], levels[inside]) / ends[1])


# The side of a square is a whole number of pixels, so that 0.8 is 90 of 112.
HALF_A_PIXEL = 0.5 / 112
PARTIAL_MEANS = (
    PartialMean("gaussian_noise", "accuracy", 0.4, "accuracy, mean over sigma 0 to 0.4"),
    PartialMean(
        "gaussian_noise",
        "loss_change",
        0.2,
        "change of loss from clean (nats per image), mean over sigma 0 to 0.2",
    ),
    PartialMean("square_mask", "accuracy", 0.8, "accuracy, mean over sides 0 to 0.8", HALF_A_PIXEL),
    PartialMean("fgsm", "accuracy", 0.03, "accuracy, mean over epsilon 0 to 0.03"),
    PartialMean(
        "fgsm",
        "loss_change",
        0.004,
        "change of loss from clean (nats per image), mean over epsilon 0 to 0.004",
    ),
    PartialMean("local_energy", "accuracy", 0.5, "accuracy, mean over sigma 0 to 0.5"),
    PartialMean(
        "local_energy",
        "loss_change",
        0.5,
        "change of loss from clean (nats per image), mean over sigma 0 to 0.5",
    ),
)
# A scalar may have companions, datasets NAME_se and NAME_residual.
COMPANIONS = ("se", "residual")

CURVES = {
    ("train", "accuracy"): "train accuracy",
    ("test", "accuracy"): "test accuracy",
    ("train", "loss"): "train loss (nats per image)",
    ("test", "loss"): "test loss (nats per image)",
}
MOVED = {
    "distance": "distance from the start, Euclidean,",
    "distance_relative": "distance from the start / norm at the start,",
    "path": "length of the path, all steps added up,",
}


@dataclass(frozen=True)
class Finetuning:
    """All files of one mode of finetuning on one task."""

    task: str
    mode: str  # its word: "full", "full@lr_3e-4"
    label: str  # the mode, and the task where there are several
    results: list[Result]

    @property
    def fields(self) -> dict[str, str]:
        """What its values at the last epoch are filtered by."""
        return FINETUNED | {"task": self.task, "mode": self.mode}

    @property
    def moves(self) -> bool:
        """Whether there are epochs in which a network moves: a probe has none."""
        return any(len(result.data["epoch"]) > 1 for result in self.results)


def values(results: list[Result]) -> Values:
    """The tidy table of a study."""
    finetuned = [result for result in results if result.kind == "finetune"]
    reached = {
        stage: max(result.data["train/loss"].min(1).max() for result in members)
        for stage, members in grouped(finetuned, finetuning_of).items()
    }
    rows = []
    for result in results:
        if result.kind == "training":
            quantities = pretraining(result)
        elif result.kind == "passport":
            quantities = passport(result)
        elif result.kind == "finetune":
            quantities = finetuning(result, reached[finetuning_of(result)])
        else:
            continue
        whose = {
            "minimum": result.minimum,
            "method": result.attrs["method"],
            "setting": result.attrs["setting"],
            "seed": result.attrs["seed"],
            "kind": result.kind,
        }
        rows += [Value(**whose, **quantity) for quantity in quantities]
    return Values(rows)


def finetuning_of(result: Result) -> tuple[str, str]:
    """The task and the mode of a finetuning."""
    return result.task, result.mode


def finetunings(results: list[Result]) -> list[Finetuning]:
    """Finetuning by task and mode, in the order of their names."""
    finetuned = [result for result in results if result.kind == "finetune"]
    members = grouped(finetuned, finetuning_of)
    several = len({task for task, _ in members}) > 1
    return [
        Finetuning(task, mode, f"{mode} on {task}" if several else mode, members[task, mode])
        for task, mode in sorted(members, key=lambda names: [natural(name) for name in names])
    ]


def pretraining(result: Result) -> Iterator[dict]:
    """When it reached its target, and what it cost in gradients."""
    if "gradients" in result.attrs and "epochs" in result.settings:
        yield {
            "source": "pretraining",
            "name": "gradients",
            "value": float(result.attrs["gradients"] * result.settings["epochs"]),
            "words": "gradients that a training image took: epochs, twice as many for sam",
        }
    yield {
        "source": "pretraining",
        "name": "epoch_at_target",
        "value": statistics.median(result.attrs["epoch_target_reached"]),
        "words": "epoch at which running train accuracy reached its target (inf: never)",
    }


def passport(result: Result) -> Iterator[dict]:
    """Clean loss, accuracy and calibration; the summaries of each perturbation; scalars."""
    for group, attrs in result.groups.items():
        what = {
            "source": attrs["measurement"],
            "group": group,
            "variant": attrs["variant"],
            "batchnorm": attrs["batchnorm"],
        }
        levels = result.data.get(f"{group}/levels")
        clean = attrs["measurement"] == "clean"
        if levels is not None and not clean:
            yield what | {
                "name": "largest_level",
                "value": levels[-1],
                "words": f"{attrs['title']}: largest level ({attrs['level_units']})",
            }
        for split in SPLITS:
            title = " ".join(word for word in (attrs["title"], attrs["variant"]) if word)
            recomputed = ", BatchNorm recomputed" if attrs["batchnorm"] == "recomputed" else ""
            about = f"{title}, {split}{recomputed}: "
            for quantity in (
                *summaries(result, group, split, CLEAN if clean else SUMMARIES),
                *partial_means(result, group, split),
                *scalars(result, group, split),
            ):
                yield what | {"split": split} | quantity | {"words": about + quantity["words"]}


def summaries(result: Result, group: str, split: str, known: dict) -> Iterator[dict]:
    """What the measurement summarised: a value and its interval, of all levels or of the clean."""
    levels = result.data.get(f"{group}/levels")
    for dataset, (name, words) in known.items():
        summary = result.data.get(f"{group}/summary/{split}/{dataset}")
        if summary is None:
            continue
        value, low, high = summary.reshape(-1, 3)[0]
        is_level = name in ("half_accuracy_level", "one_nat_level")
        yield {
            "name": name,
            "value": value,
            "low": low,
            "high": high,
            "has_interval": True,
            "limit": levels[-1] if is_level and levels is not None else np.nan,
            "step": step(result, f"{group}/{split}") if name == "accuracy" else 0,
            "words": words,
        }


def partial_means(result: Result, group: str, split: str) -> Iterator[dict]:
    """The means over part of the levels that were fixed in advance."""
    attrs = result.groups[group]
    levels = result.data.get(f"{group}/levels")
    for mean in PARTIAL_MEANS:
        curve = result.data.get(f"{group}/summary/{split}/{mean.name}")
        if mean.source != attrs["measurement"] or attrs["variant"] or curve is None:
            continue
        value = mean.of(levels, curve[:, 0])
        if not np.isnan(value):
            what = {"name": mean.name, "levels": mean.levels, "words": mean.words}
            steps = step(result, f"{group}/{split}") if mean.name == "accuracy" else 0
            yield what | {"value": value, "step": steps}


def step(result: Result, place: str) -> float:
    """What one image more or less changes in an accuracy; 0 where their number is not known."""
    count = result.images.get(place, 0)
    return 1 / count if count else 0.0


def scalars(result: Result, group: str, split: str) -> Iterator[dict]:
    """Single numbers, each before its standard error and its residual."""
    numbers = {
        name: array[0]
        for name, array in result.folder(f"{group}/{split}").items()
        if array.ndim == 1 and name != "accuracy_relative"
    }
    companions = {
        f"{name}_{statistic}": (name, statistic) for name in numbers for statistic in COMPANIONS
    }
    for dataset, number in numbers.items():
        name, statistic = companions.get(dataset, (dataset, ""))
        yield {"name": name, "statistic": statistic, "value": number, "words": dataset}


def finetuning(result: Result, loss: float) -> Iterator[dict]:
    """What finetuning came to at its last epoch, and when its train loss was first `loss`."""
    task, mode = finetuning_of(result)
    what = {"source": "finetuning", "task": task, "mode": mode}
    for quantity in (
        *counts(result),
        *outcomes(result),
        *at_equal_loss(result, loss),
        *straightness(result),
        *forgetting(result),
    ):
        yield what | quantity | {"words": f"{mode} finetuning: {quantity['words']}"}


def counts(result: Result) -> Iterator[dict]:
    """Epochs, runs, and epochs until the target was reached."""
    data, target = result.data, result.attrs["target"]
    last = int(data["epoch"][-1])
    epochs = np.where(np.isnan(data["epochs_to_target"]), np.inf, data["epochs_to_target"])
    yield {"name": "epochs", "value": last, "words": "number of epochs"}
    yield {"name": "runs", "value": len(epochs), "words": "number of runs"}
    for statistic, value, words in (
        (
            "",
            np.median(epochs),
            f"epochs to {target:.0%} train accuracy, median over runs (inf: never)",
        ),
        ("least", epochs.min(), "epochs to the target, least of the runs"),
        ("most", epochs.max(), "epochs to the target, most of the runs"),
    ):
        yield {
            "name": "epochs_to_target",
            "statistic": statistic,
            "value": value,
            "limit": last,
            "words": words,
        }


def outcomes(result: Result) -> Iterator[dict]:
    """Accuracy, loss, distance and path at the last epoch, means over runs."""
    for (split, name), words in CURVES.items():
        runs = result.data.get(f"{split}/{name}")
        if runs is not None:
            steps = step(result, split) if name == "accuracy" else 0
            what = {"split": split, "name": name, "step": steps}
            yield from over_runs(what, runs[:, -1], words, spread=name == "accuracy")
    for name, words in MOVED.items():
        for part, runs in result.folder(name).items():
            what = {"name": name, "part": part}
            spread = (name, part) == ("distance_relative", "all")
            yield from over_runs(what, runs[:, -1], f"{words} of {part}", spread)


def over_runs(what: dict, runs: np.ndarray, words: str, spread: bool) -> Iterator[dict]:
    """The mean over `runs` (R,), with `spread` also their std, least and most."""
    mean, std, _ = statistics.mean_std(runs)
    numbers = {"": mean}
    if spread:
        numbers |= {"std": std, "least": runs.min(), "most": runs.max()}
    for statistic, value in numbers.items():
        yield what | {
            "statistic": statistic,
            "value": value,
            "words": f"{words} at the last epoch, {statistic or 'mean'} over runs",
        }


def at_equal_loss(result: Result, loss: float) -> Iterator[dict]:
    """Distances where train loss is first `loss`, which all runs of a study reach."""
    losses = result.data["train/loss"]
    for name in "distance", "distance_relative":
        for part, runs in result.folder(name).items():
            moved = np.array([value_at_loss(*run, loss) for run in zip(losses, runs)])
            numbers = {"": np.mean(moved)}
            if (name, part) == ("distance_relative", "all"):
                numbers |= {"least": moved.min(), "most": moved.max()}
            for statistic, value in numbers.items():
                yield {
                    "name": name,
                    "part": part,
                    "moment": "at equal loss",
                    "statistic": statistic,
                    "value": value,
                    "words": (
                        f"{MOVED[name]} of {part}, where train loss is first {loss:.4g}, "
                        f"{statistic or 'mean'} over runs"
                    ),
                }


def straightness(result: Result) -> Iterator[dict]:
    """How straight the way was; undefined where nothing but the head moved."""
    if "path/all" in result.data:
        distance, path = (result.data[f"{kind}/all"][:, -1] for kind in ("distance", "path"))
        fractions = np.divide(distance, path, out=np.full_like(path, np.nan), where=path > 0)
        yield {
            "name": "straightness",
            "value": np.mean(fractions),
            "words": "distance / length of the path, all but the head, mean over runs",
        }


def forgetting(result: Result) -> Iterator[dict]:
    """What finetuning cost on the source task, with the old head: accuracy lost, loss gained."""
    for curve, name, sign in ("accuracy", "forgetting", -1), ("loss", "source_loss_gained", 1):
        for suffix, batchnorm in ("", "stored"), ("_recomputed", "recomputed"):
            runs = result.data.get(f"source/{curve}{suffix}")  # (R, 2 or more epochs)
            if runs is not None:
                changes = sign * (runs[:, -1] - runs[:, 0])
                yield {
                    "name": name,
                    "batchnorm": batchnorm,
                    "value": np.mean(changes),
                    "step": step(result, "source") if curve == "accuracy" else 0,
                    "words": (
                        f"{'accuracy lost' if sign < 0 else 'loss gained (nats per image)'} on the "
                        f"source task, BatchNorm {batchnorm}, mean over runs"
                    ),
                }


def value_at_loss(losses: np.ndarray, values: np.ndarray, loss: float) -> float:
    """`values` (E,) where the curve `losses` (E,) first falls to `loss`, linear between epochs.

    NaN if it never does.
    """
    below = np.flatnonzero(losses <= loss)
    if not len(below):
        return np.nan
    last = below[0]
    if not last:
        return values[0]
    fraction = (losses[last - 1] - loss) / (losses[last - 1] - losses[last])
    return values[last - 1] + fraction * (values[last] - values[last - 1])
