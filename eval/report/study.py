"""The files of a study as the report reads them: each as it is, and all of them as one row a minimum."""

import json
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from common import files
from eval.report import statistics

SPLITS = "train", "test"
KINDS = "training", "passport", "finetune", "pair"
ENDS = {"_low": ": low end of its 95 % interval", "_high": ": high end of its 95 % interval"}
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
# Means over part of the levels (from, to], by measurement: what verdicts and claims are about.
PARTS = {
    "local_energy": (
        "loss_change",
        0.5,
        np.greater_equal,
        "change of loss from clean (nats per image), mean over sigma <= 0.5",
    ),
    "gaussian_noise": ("accuracy", 0.4, np.greater, "accuracy, mean over 0 < sigma <= 0.4"),
}


def load(path):
    """One file: kind, minimum, label (method, or pair of methods), attrs, settings, groups {group: attrs}, data {path: array}."""
    data = {}
    with files.read(path) as file:
        attrs = {
            name: value.item() if hasattr(value, "item") else value
            for name, value in file.attrs.items()
        }
        if attrs.get("kind") not in KINDS:
            raise SystemExit(
                f"{path}: not a result of the study; the report takes training, passport, finetune and pair files"
            )
        file.visititems(
            lambda at, item: data.update(
                {at: item[()]} if hasattr(item, "shape") and "_by_image" not in at else {}
            )
        )
        groups = {
            name: dict(group.attrs) for name, group in file.items() if "measurement" in group.attrs
        }
    for name, split in (
        (name, split)
        for name in groups
        for split in SPLITS
        if f"{name}/summary/{split}/accuracy_relative" in data
    ):
        data[f"{name}/{split}/accuracy_relative"] = data[
            f"{name}/summary/{split}/accuracy_relative"
        ][:, 0]
    settings = json.loads(attrs["settings"])
    order = settings.get("names", []) + [
        own["measurement"] for own in groups.values()
    ]  # as measured: HDF5 lists by alphabet
    groups = dict(sorted(groups.items(), key=lambda group: order.index(group[1]["measurement"])))
    minima = json.loads(attrs["minima"]) if attrs["kind"] == "pair" else [attrs["minimum"]]
    return SimpleNamespace(
        path=path,
        kind=attrs["kind"],
        attrs=attrs,
        settings=settings,
        groups=groups,
        data=data,
        minimum="--".join(minima),
        label="--".join(minimum.rpartition("-")[0] for minimum in minima),
    )


def read(paths, partial):
    """(results, problems): every file that can be read; what cannot be is one line, which ends the report unless it is `partial`."""
    results, problems, places = [], [], {}
    for path in paths:
        try:
            result = load(path)
            own = [
                (result.kind, result.minimum, result.attrs.get("mode"), group)
                for group in result.groups or [""]
                if "tune" not in path.parts[-3:]
            ]
            if again := next((places[key] for key in own if key in places), None):
                raise SystemExit(
                    f"{path}: is of {result.minimum}, as {again} is; one of them lies in the wrong folder"
                )
            places.update(dict.fromkeys(own, path))
            results.append(result)
        except SystemExit as problem:
            problems.append(
                f"{problem}; make all makes it" if "No such file" in str(problem) else str(problem)
            )
    if problems and (not partial or not results):
        raise SystemExit(
            "\n".join(
                [*problems, "--partial (make report PARTIAL=1) reports the rest"]
                if results
                else problems
            )
        )
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    return results, problems


def over(results):
    """What a line and its band, or a number and its ±, mean."""
    counts = Counter(
        label for _, label in sorted({(result.minimum, result.label) for result in results})
    )
    return f"mean ± standard deviation over seeds, n = {', '.join(f'{n} {label}' for label, n in counts.items())}"


def pack(path):
    """A pack in words; whoever used it has checked its sum."""
    with files.read(path, check=False) as file:
        counts = np.bincount(file["split"][()], minlength=3)
        twice = file.attrs.get("duplicates", 0)
        return (
            f"{Path(str(file.attrs['source'])).name} ({len(json.loads(file.attrs['classes']))} classes at {file.attrs['image_size']} px; "
            f"{counts[0]:,} train, {counts[1]:,} val, {counts[2]:,} test images{f', {twice:,} of which are also in train or val' * bool(twice)})"
        )


def grouped(items, key):
    """{key: its items}, in order of appearance."""
    found = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return found


def rows(results):
    """(rows, words): a dict a minimum, in order of appearance, of every scalar of its files; and {column: what it is}, for summary.csv."""
    found, words = (
        {},
        {
            "minimum": "folder of the minimum",
            "method": "how it was pretrained",
            "seed": "initial weights and order of images",
        },
    )
    losses = {
        mode: max(result.data["train/loss"].min(1).max() for result in own)
        for mode, own in grouped(
            (result for result in results if result.kind == "finetune"),
            lambda result: result.attrs["mode"],
        ).items()
    }
    for result in (result for result in results if result.kind != "pair"):
        row = found.setdefault(
            result.minimum,
            {"minimum": result.minimum, "method": result.label, "seed": result.attrs["seed"]},
        )
        if result.kind == "training":
            columns = [
                (
                    "pretraining_epoch_at_target",
                    "epoch at which running train accuracy reached its target (inf: never)",
                    statistics.median(result.attrs["epoch_target_reached"]),
                )
            ]
        elif result.kind == "passport":
            columns = _measures(result)
        else:
            columns = _outcomes(result, losses[result.attrs["mode"]])
        for name, meaning, value in columns:
            row[name], words[name] = value, meaning
    return list(
        found.values()
    ), words  # in a passport's second volume are more columns of the same row


def _measures(result):
    """Of a passport: clean loss, accuracy and calibration; the summaries of each perturbation, each also _low and _high; scalars."""
    for (name, attrs), split in (
        (item, split) for item in result.groups.items() for split in SPLITS
    ):
        data, clean = result.data, attrs["measurement"] == "clean"
        prefix, suffix = (
            (f"{split}_", "" if attrs["batchnorm"] == "stored" else f"_{attrs['batchnorm']}")
            if clean
            else (f"{name}_{split}_", "")
        )
        what = f"{' '.join(filter(None, (attrs['title'], attrs['variant'])))}, {split}{', BatchNorm recomputed' * (attrs['batchnorm'] == 'recomputed')}: "
        levels = data.get(f"{name}/levels")
        if levels is not None and not clean:
            yield (
                f"{name}_largest_level",
                f"{attrs['title']}: largest level ({attrs['level_units']})",
                levels[-1],
            )
        for stored, (column, words) in (
            {"loss": ("loss", "loss (nats per image)"), "accuracy": ("accuracy", "accuracy")}
            if clean
            else SUMMARIES
        ).items():
            if (found := data.get(f"{name}/summary/{split}/{stored}")) is not None:
                for end, value in zip(("", *ENDS), found.reshape(-1, 3)[0]):
                    yield f"{prefix}{column}{suffix}{end}", what + words + ENDS.get(end, ""), value
        if (part := PARTS.get(name)) and (
            curve := data.get(f"{name}/summary/{split}/{part[0]}")
        ) is not None:
            kind, most, above, words = part
            inside = above(levels, 0) & (levels <= most + 1e-9)
            if inside.any():
                yield f"{prefix}{kind}_to_{most:g}", what + words, curve[inside, 0].mean()
        for at, value in data.items():
            if (
                at.startswith(f"{name}/{split}/")
                and value.ndim == 1
                and not at.endswith("accuracy_relative")
            ):
                yield f"{prefix}{at.split('/')[-1]}{suffix}", what + at.split("/")[-1], value[0]


def _outcomes(result, loss):
    """What finetuning came to at its last epoch, and when its train loss was first `loss`, over the runs of one minimum."""
    data, mode = result.data, result.attrs["mode"]
    what = f"{mode} finetuning: "
    epochs = np.where(np.isnan(data["epochs_to_target"]), np.inf, data["epochs_to_target"])
    yield f"{mode}_epochs", what + "number of epochs", int(data["epoch"][-1])
    yield f"{mode}_runs", what + "number of runs", len(epochs)
    yield (
        f"{mode}_epochs_to_target",
        what
        + f"epochs to {result.attrs['target']:.0%} train accuracy, median over runs (inf: never)",
        np.median(epochs),
    )
    yield (
        f"{mode}_epochs_to_target_least",
        what + "epochs to the target, least of the runs",
        epochs.min(),
    )
    yield (
        f"{mode}_epochs_to_target_most",
        what + "epochs to the target, most of the runs",
        epochs.max(),
    )
    curves = {
        at: words
        for at, words in {
            "train/accuracy": "train accuracy",
            "test/accuracy": "test accuracy",
            "train/loss": "train loss (nats per image)",
            "test/loss": "test loss (nats per image)",
        }.items()
        if at in data
    }
    curves |= {
        at: f"{kind} of {at.split('/')[1]}"
        for at in data
        for kind, start in (
            ("distance from the start, Euclidean,", "distance/"),
            ("distance from the start / norm at the start,", "distance_relative/"),
            ("length of the path, all steps added up,", "path/"),
        )
        if at.startswith(start)
    }
    for at, words in curves.items():
        mean, std, _ = statistics.mean_std(data[at][:, -1])
        for end, value in (
            ("", mean),
            ("_std", std),
            ("_least", data[at][:, -1].min()),
            ("_most", data[at][:, -1].max()),
        ):
            if not end or at in ("train/accuracy", "test/accuracy", "distance_relative/all"):
                yield (
                    f"{mode}_{at.replace('/', '_')}{end}",
                    f"{what}{words} at the last epoch, {end[1:] or 'mean'} over runs",
                    value,
                )
    for at in (at for at in curves if at.startswith("distance")):
        value = np.mean(
            [at_loss(run, moved, loss) for run, moved in zip(data["train/loss"], data[at])]
        )
        yield (
            f"{mode}_{at.replace('/', '_')}_at_equal_loss",
            f"{what}{curves[at]}, where train loss is first {loss:.4g}, mean over runs",
            value,
        )
    if "path/all" in data:
        yield (
            f"{mode}_straightness",
            what + "distance / length of the path, all but the head, mean over runs",
            np.mean(data["distance/all"][:, -1] / data["path/all"][:, -1]),
        )


def at_loss(losses, values, loss):
    """`values` (E,) where the curve `losses` (E,) first falls to `loss`, linear between epochs; NaN if it never does."""
    below = np.flatnonzero(losses <= loss)
    if not len(below):
        return np.nan
    last = below[0]
    part = (losses[last - 1] - loss) / (losses[last - 1] - losses[last]) if last else 0
    return values[last - 1] + part * (values[last] - values[last - 1]) if last else values[0]


def cautions(results, rows):
    """What to know before trusting a report on these: mixed code or settings, an unfinished study, targets that were not reached."""
    codes, settings = {}, {}
    for result in results:
        for stage, attrs in (
            result.groups or {f"{result.kind} {result.attrs.get('mode', '')}".strip(): result.attrs}
        ).items():
            codes.setdefault(stage, set()).add(attrs["code"])
        own = {
            name: value
            for name, value in result.settings.items()
            if name not in ("seed", "minimum", "minima", "out", "run", "device")
        }
        stage = f"{result.kind} {result.label if result.kind == 'training' else result.attrs.get('mode', '')}".strip()
        settings.setdefault((stage, str(own.get("names"))), set()).add(
            json.dumps(own, sort_keys=True)
        )  # a passport's two volumes differ by design
    if mixed := [stage for stage, found in codes.items() if len(found) > 1]:
        yield f"Files of different code versions are compared here: {', '.join(mixed)}."
    if mixed := [stage for (stage, _), found in settings.items() if len(found) > 1]:
        yield f"Files made with different settings are compared here: {', '.join(mixed)}."
    have = {
        (result.minimum, result.kind)
        for result in results
        if result.kind != "passport" or "clean" in result.groups
    }
    seeds = dict.fromkeys(row["seed"] for row in rows)
    lacking = [
        f"{row['minimum']} has no {kind} file"
        for row in rows
        for kind in ("passport", "finetune")
        if (row["minimum"], kind) not in have
    ]
    lacking += [
        f"{method} has no seed {seed}"
        for method, own in grouped(rows, lambda row: row["method"]).items()
        for seed in seeds
        if seed not in [row["seed"] for row in own]
    ]
    if lacking:
        yield f"The study is not finished: {'; '.join(lacking)}."
    if short := [
        row["minimum"] for row in rows if row.get("pretraining_epoch_at_target") == np.inf
    ]:
        yield f"Pretraining never reached its target of train accuracy while it ran: {', '.join(short)}."
    target = next((result.attrs["target"] for result in results if result.kind == "training"), 0)
    if short := [row["minimum"] for row in rows if row.get("train_accuracy", 1) < target]:
        yield f"As saved, these minima have less than {target:.0%} accuracy on the training images measured: {', '.join(short)}."


def cell(rows, column):
    """Of one minimum its value and interval, else mean ± std over the minima in `rows`; of what some never reached, how many of them."""
    rows = [row for row in rows if not np.isnan(row.get(column, np.nan))]
    if not rows:
        return "–"
    limit = (
        rows[0].get(column.split("_test_")[0].split("_train_")[0] + "_largest_level")
        if column.endswith("_level")
        else rows[0].get(column.replace("_to_target", ""))
        if column.endswith("_epochs_to_target")
        else None
    )
    never = f"> {limit:g}" if limit else "never"
    values = [row[column] for row in rows]
    if len(values) > 1 and np.isinf(values).any():
        return f"{never} in {np.isinf(values).sum()} of {len(values)}"
    mean, std, count = statistics.mean_std(values)
    digits = 1 if 10 <= abs(mean) < np.inf else 3 if abs(mean) >= 0.1 else 4
    if count == 1:
        ends = [rows[0].get(f"{column}_{end}", np.nan) for end in ("low", "high")]
        value, *ends = (
            f"{number:.{digits}f}" if np.isfinite(number) else never
            for number in (mean, *([] if np.isnan(ends).any() else ends))
        )
        return f"{value} [{', '.join(ends)}]" if ends and set(ends) != {value} else value
    digits = (
        min(5, max(digits, 1 - int(np.floor(np.log10(std))))) if std > 0 else digits
    )  # two digits of the std
    return f"{mean:.{digits}f} ± {std:.{digits}f}"


def csv(rows, words):
    """summary.csv: a header, a row a minimum (empty: it lacks that; nan: undefined; inf: never), then a line "# column: what it is" for each."""
    lines = [",".join(words), *(",".join(str(row.get(name, "")) for name in words) for row in rows)]
    return "\n".join([*lines, *(f"# {name}: {meaning}" for name, meaning in words.items()), ""])


def as_json(found):
    """JSON of dicts, lists and numbers; NaN and infinity, which JSON lacks, become null."""
    return (
        json.dumps(
            json.loads(json.dumps(found, default=float), parse_constant=lambda name: None), indent=1
        )
        + "\n"
    )
