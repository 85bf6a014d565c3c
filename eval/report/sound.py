"""Whether a file of results holds what the report reads in it: attributes of their types, datasets
of their shapes, accuracies from 0 to 1.

A checksum says that a file is as it was written. A measurement of your own may have written it, or
a hand: what is odd in it is one line that names the file.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

import numpy as np

Shape = tuple[int | str, ...]  # of a dataset; "any": any number

MEND = "mend what wrote it, and make it again"
ROUNDING = 1e-6  # of an accuracy beyond 0 or 1: the mean of a float32
SPLITS = ("train", "test")

OF_EVERY_FILE = ("code", "command", "commit", "device", "seed", "versions")
NEEDED_ATTRIBUTES = {  # by kind of file
    "training": (*OF_EVERY_FILE, "target", "epoch_target_reached"),
    "passport": OF_EVERY_FILE,
    "finetune": (*OF_EVERY_FILE, "target"),
    "comparison": (*OF_EVERY_FILE, "shared_start", "classes"),
}
NEEDED = {  # datasets, by kind of file, or by comparison
    "training": ("epoch",),
    "finetune": ("epoch", "epochs_to_target", "train/loss", "distance_relative/all"),
    "line": ("path/t", "path/train/loss", "path_recomputed/t", "path_recomputed/train/loss"),
    "distance": ("distance/weights/relative", "distance/batchnorm/relative"),
}
CURVES = ("train", "val", "test", "distance", "distance_relative", "path")  # folders of datasets


def _is_text(value) -> bool:
    return isinstance(value, str)


def _is_whole(value) -> bool:
    return isinstance(value, int)


def _is_count(value) -> bool:
    return _is_whole(value) and value > 0


def _is_number(value) -> bool:
    return isinstance(value, int | float)


def _is_fraction(value) -> bool:
    return _is_number(value) and 0 <= value <= 1


def _is_list(value, item_fits: Callable) -> bool:
    return isinstance(value, list) and all(map(item_fits, value))


def _from_json(text):
    """What a text of JSON stands for; None where it is none."""
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return None


def _is_settings(text) -> bool:
    """Whether it is JSON {flag: value}; `names`, of a passport, are those of measurements."""
    flags = _from_json(text)
    return isinstance(flags, dict) and _is_list(flags.get("names", []), _is_text)


def _is_counts(text) -> bool:
    """Whether it is JSON {split: number of images}."""
    counts = _from_json(text)
    return isinstance(counts, dict) and all(map(_is_count, counts.values()))


def _is_two_names(text) -> bool:
    names = _from_json(text)
    return _is_list(names, _is_text) and len(names) == 2


def _is_two_seeds(text) -> bool:
    seeds = _from_json(text)
    return _is_list(seeds, _is_whole) and len(seeds) == 2


TEXT = (_is_text, "text")
ATTRIBUTES = {  # of a file: (what fits, in words)
    "code": TEXT,
    "command": TEXT,
    "commit": TEXT,
    "comparison": TEXT,
    "data": TEXT,
    "device": TEXT,
    "method": TEXT,
    "minimum": TEXT,
    "mode": TEXT,
    "mode_setting": TEXT,
    "setting": TEXT,
    "task": TEXT,
    "versions": TEXT,
    "weights": TEXT,
    "classes": (_is_count, "the number of classes"),
    "epoch_target_reached": (_is_number, "a number"),
    "images_measured": (_is_counts, "JSON of numbers of images"),
    "minima": (_is_two_names, "JSON of two names"),
    "methods": (_is_two_names, "JSON of two names"),
    "settings_of_minima": (_is_two_names, "JSON of two names"),
    "seed": (_is_whole, "a whole number"),
    "seeds": (_is_two_seeds, "JSON of two whole numbers"),
    "settings": (_is_settings, "JSON of a command's flags"),
    "shared_start": (_is_number, "true or false"),
    "target": (_is_fraction, "a number from 0 to 1"),
}
TEXTS_OF_A_GROUP = (
    "batchnorm",
    "code",
    "command",
    "interval",
    "level",
    "level_units",
    "measurement",
    "source",
    "title",
    "variant",
)


def check_attributes(path: Path, attrs: Mapping, groups: Mapping[str, Mapping]):
    """SystemExit with one line where an attribute of a file, or of a group of it, does not fit.

    What is missing is not looked for here.
    """
    for name, (fits, wanted) in ATTRIBUTES.items():
        if name in attrs and not fits(attrs[name]):
            raise SystemExit(f"{path}: its {name} is {_short(attrs[name])}, not {wanted}; {MEND}")
    if attrs["kind"] == "comparison" and not _is_two_names(attrs.get("weights", '["", ""]')):
        raise SystemExit(f"{path}: its weights are not JSON of two sha256; {MEND}")
    for group, texts in groups.items():
        for name in TEXTS_OF_A_GROUP:
            if name in texts and not _is_text(texts[name]):
                raise SystemExit(
                    f"{path}: the {name} of {group} is {_short(texts[name])}, not text; {MEND}"
                )


def _short(value) -> str:
    """A value on one line, of 40 characters at most."""
    return " ".join(repr(value).split())[:40]


def check(result):
    """SystemExit with one line where a Result lacks what the report reads, or holds what nothing
    measured can be.
    """
    path, kind = result.path, result.kind
    lacking = [name for name in NEEDED_ATTRIBUTES[kind] if name not in result.attrs]
    lacking += [
        f"{name} of {group}"
        for group, attrs in result.groups.items()
        for name in TEXTS_OF_A_GROUP
        if name not in attrs
    ]
    what = result.attrs["comparison"] if kind == "comparison" else kind
    lacking += [f"dataset {name}" for name in NEEDED.get(what, ()) if name not in result.data]
    if lacking:
        raise SystemExit(f"{path}: has no {lacking[0]}; {MEND}")
    for name in sorted(result.data, key=lambda path: path.count("/")):  # axes come first
        values = result.data[name]
        wanted = wanted_shapes(result, PurePosixPath(name))
        if wanted and (wrong := wrong_with(PurePosixPath(name).name, np.asarray(values), wanted)):
            raise SystemExit(f"{path}: its {name} {wrong}; {MEND}")


def wrong_with(word: str, values: np.ndarray, wanted: list[Shape]) -> str:
    """What is wrong with a dataset whose path ends in `word`; "" where nothing is."""
    if values.dtype.kind not in "biuf":
        return "holds no numbers"
    if not values.size:
        return "is empty"
    if not any(has_shape(values, shape) for shape in wanted):
        return f"has shape {values.shape}, not {' or '.join(map(str, wanted))}"
    if word in ("levels", "epoch", "t"):
        ascends = np.isfinite(values).all() and (np.diff(values) > 0).all()
        return "" if ascends else "does not ascend"
    if word.endswith("accuracy"):
        odd = values[(values < -ROUNDING) | (values > 1 + ROUNDING)]
        if odd.size:
            return f"holds {odd[0]:g}, and an accuracy is a fraction from 0 to 1"
    return ""


def has_shape(values: np.ndarray, wanted: Shape) -> bool:
    return values.ndim == len(wanted) and all(
        size == other or other == "any" for size, other in zip(values.shape, wanted)
    )


def wanted_shapes(result, name: PurePosixPath) -> list[Shape]:
    """The shapes that a dataset may have; none where the report does not read it."""
    if result.kind == "passport":
        return of_a_group(result, name)
    if result.kind == "comparison":
        return of_a_comparison(result, name)
    return of_a_run(result, name)


def of_a_run(result, name: PurePosixPath) -> list[Shape]:
    """Of training or finetuning: curves over epochs, of finetuning a row a run."""
    folder, epoch = name.parts[0], _length(result, "epoch")
    runs = _length(result, "epochs_to_target") if result.kind == "finetune" else ()
    if len(name.parts) == 1:
        return {"epoch": [epoch or ("any",)], "epochs_to_target": [runs or ("any",)]}.get(
            folder, []
        )
    if folder == "final":
        return [()]
    if folder == "source":
        return [(*runs, *np.shape(result.data.get("source/epoch", 0))[1:])]  # a column an epoch
    return [(*runs, *epoch)] if folder in CURVES else []


def of_a_comparison(result, name: PurePosixPath) -> list[Shape]:
    """Of two minima: curves over t; distances, a number each."""
    folder = name.parts[0]
    if folder in ("path", "path_recomputed"):
        points = _length(result, f"{folder}/t")
        return [points or ("any",)] if name.name == "t" else [points]
    return [()] if folder == "distance" and len(name.parts) == 3 else []


def of_a_group(result, name: PurePosixPath) -> list[Shape]:
    """Of a passport: levels; curves over them, a column a repeat; scalars; summaries."""
    group, *path = name.parts
    if group not in result.groups or not path:
        return []
    levels = _length(result, f"{group}/levels")
    if path == ["levels"]:
        return [levels or ("any",)]
    if path[0] == "summary":  # value, low, high
        of_all_levels = name.name.startswith("mean_") or name.name.endswith("_level")
        return [(3,) if of_all_levels else (*levels, 3)]
    if path[0] == "halves":
        return [(*levels, 4)]
    if path[0] in SPLITS and name.name == "accuracy_relative":
        return [levels]
    if path[0] in SPLITS and name.name in ("accuracy", "loss"):
        return [(*levels, "any")]
    return [(1,), (*levels, "any")] if path[0] in SPLITS else []


def _length(result, name: str) -> Shape:
    """(its number of values,) of a dataset; () where there is none."""
    return np.shape(result.data.get(name, 0))[:1]
