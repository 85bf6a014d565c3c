"""The files of a study: each read whole, its fields and its datasets, and what is wrong with it."""

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import h5py
import numpy as np

from common import files, origins
from eval.report import halves, sound

SPLITS = ("train", "test")
NAMED = 6  # files that are missing, beyond which they are counted
KINDS = ("training", "passport", "comparison", "finetune")  # in the order of the page
BY_IMAGE = ("loss_by_image", "correct_by_image")  # large, and no part of the report
# What a file says of its minimum, and a comparison of its two.
WHOSE = {
    "minimum": "minima",
    "method": "methods",
    "setting": "settings_of_minima",
    "seed": "seeds",
}
NEEDED = {"finetune": ("task", "mode", "mode_setting"), "comparison": ("comparison",)}


@dataclass(eq=False)
class Result:
    """One file of results."""

    path: Path
    kind: str  # one of KINDS
    attrs: dict  # of the file
    settings: dict  # the command's flags
    groups: dict[str, dict]  # of a passport: the attributes of each group, in order of measuring
    data: dict[str, np.ndarray]  # by path, but for what is kept of each image
    minima: list[str]  # one, or the two that are compared
    methods: list[str]  # of each of them
    settings_of_minima: list[str]
    seeds: list[int]
    images: dict[str, int] = field(default_factory=dict)  # measured: of a GROUP/SPLIT, or a SPLIT
    label: str = field(init=False)  # of its line in a figure

    def __post_init__(self):
        self.label = "--".join(self.settings_of_minima)

    @property
    def minimum(self) -> str:
        """The minimum, or the two that are compared."""
        return "--".join(self.minima)

    @property
    def stage(self) -> str:
        """What made the file, in words: "finetune full", "comparison line", "passport"."""
        words = self.kind, self.mode, self.attrs.get("comparison", "")
        return " ".join(word for word in words if word)

    @property
    def task(self) -> str:
        """Of a finetuning, the data set."""
        return self.attrs.get("task", "")

    @property
    def mode(self) -> str:
        """Of a finetuning, the mode's word: "full", "full@lr_3e-4"."""
        return self.attrs.get("mode_setting", "")

    @property
    def weights(self) -> str:
        """sha256 of its weights; "" of two, or where the file does not say."""
        return "" if self.kind == "comparison" else self.attrs.get("weights", "")

    def folder(self, path: str) -> dict[str, np.ndarray]:
        """{name: array} of the datasets that lie in one HDF5 group."""
        found = ((PurePosixPath(dataset), array) for dataset, array in self.data.items())
        return {dataset.name: array for dataset, array in found if str(dataset.parent) == path}

    def within(self, group: str) -> dict[str, np.ndarray]:
        """{path: array} of all datasets of an HDF5 group, also of the groups in it."""
        start = f"{group}/"
        paths = (path for path in self.data if path.startswith(start))
        return {path.removeprefix(start): self.data[path] for path in paths}


def load(path: Path) -> Result:
    """Reads one file; SystemExit with one line where it is missing, damaged or no result."""
    data, images = {}, {}

    def keep(name, item):
        place = PurePosixPath(name)
        if isinstance(item, h5py.Dataset):
            if place.name in BY_IMAGE:
                images[str(place.parent)] = item.shape[-1]
            else:
                data[name] = item[()]

    try:
        with files.read(path) as file:
            attrs = _attributes(file)
            if attrs.get("kind") not in KINDS:
                raise SystemExit(
                    f"{path}: not a result of the study; the report takes training, passport, "
                    "comparison and finetune files"
                )
            file.visititems(keep)
            data |= halves.of(file)
            groups = {
                name: _attributes(group)
                for name, group in file.items()
                if isinstance(group, h5py.Group) and "measurement" in group.attrs
            }
    except (OSError, RuntimeError, TypeError, ValueError, MemoryError) as error:
        words = " ".join(str(error).split())
        raise SystemExit(f"{path}: cannot be read ({words}); {sound.MEND}") from None
    sound.check_attributes(path, attrs, groups)
    for group in groups:
        for split in SPLITS:
            summary = data.get(f"{group}/summary/{split}/accuracy_relative")
            if np.ndim(summary) == 2 and np.size(summary):  # a curve like the others
                data[f"{group}/{split}/accuracy_relative"] = summary[:, 0]
    try:
        return _result(path, attrs, groups, data, images)
    except KeyError as missing:
        raise SystemExit(
            f"{path}: has no attribute {missing}: made by an older version of basins; make the "
            "study anew in another folder: make all A=FOLDER"
        ) from None


def _result(path: Path, attrs: dict, groups: dict, data: dict, images: dict) -> Result:
    """A Result of what was read; KeyError where an attribute is missing."""
    settings = json.loads(attrs["settings"])
    measured = [attributes["measurement"] for attributes in groups.values()]
    order = settings.get("names", []) + measured  # as measured: HDF5 lists by alphabet
    ordered = sorted(groups.items(), key=lambda item: order.index(item[1]["measurement"]))
    if attrs["kind"] == "comparison":
        whose = {name: json.loads(attrs[name]) for name in WHOSE.values()}
    else:
        whose = {several: [attrs[one]] for one, several in WHOSE.items()}
    for name in NEEDED.get(attrs["kind"], ()):
        attrs[name]
    images |= json.loads(attrs.get("images_measured", "{}"))
    return Result(
        path=path,
        kind=attrs["kind"],
        attrs=attrs,
        settings=settings,
        groups=dict(ordered),
        data=data,
        images=images,
        **whose,
    )


def _attributes(item: h5py.Group) -> dict:
    """{name: number or text of Python} of a file or a group; an array is a list."""
    return {
        name: value.tolist() if hasattr(value, "tolist") else value
        for name, value in item.attrs.items()
    }


def read(
    paths: Iterable[Path],
    tuned: Iterable[Path],
    partial: bool,
    packs: Mapping[str, str] | None = None,
) -> tuple[list[Result], list[Result], list[str]]:
    """(results, those of tuning, problems), each in an order that is not that of `paths`.

    What cannot be read, or was made from other weights or packs {name: fingerprint} than lie there,
    is a problem, one line, which ends the report unless it is `partial`.
    """
    results, tried, problems = [], [], []
    paths = list(paths)
    missing = [path for path in paths if not path.exists()]
    if len(missing) > NAMED:  # a study that has just begun lacks most of its files
        problems.append(
            f"{missing[0]} and {len(missing) - 1} other files are not there; make all makes them"
        )
        paths = [path for path in paths if path.exists()]
    for path in paths:
        _collect(path, load, results, problems)
    results, of_others = _of_what_lies_there(results, packs or {})
    problems += of_others
    results, misplaced = _one_of_each(results)
    results, contradictory = _of_one_setting(results)
    for path in tuned:
        _collect(path, load_tuned, tried, problems)
    problems += misplaced + contradictory
    if problems and not (partial and (results or tried)):
        hint = ["--partial (make report PARTIAL=1) reports the rest"] if results or tried else []
        raise SystemExit("\n".join([*problems, *hint]))
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    return sorted(results, key=_order), sorted(tried, key=_order), problems


def climbed(
    ladders: Mapping[str, list[str]], results: list[Result], partial: bool
) -> tuple[dict[str, list[str]], list[str]]:
    """(ladders of the settings that `results` are of, problems): {name: [setting of each rung]}.

    A rung of which there is no file is a problem, one line, which ends the report unless it is
    `partial`; a ladder of fewer than two rungs is none.
    """
    there = {setting for result in results for setting in result.settings_of_minima}
    kept, problems = {}, []
    for name, rungs in ladders.items():
        lacking = [rung for rung in rungs if rung not in there]
        problems += [f"ladder {name}: no file is of its rung {rung}" for rung in lacking]
        if len(rungs) - len(lacking) > 1:
            kept[name] = [rung for rung in rungs if rung in there]
    if problems and not partial:
        hint = "--partial (make report PARTIAL=1) reports the rest"
        raise SystemExit("\n".join([*problems, hint]))
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    return kept, problems


def load_tuned(path: Path) -> Result:
    """Reads the file of a setting that was tried, which is chosen by its accuracy on val."""
    result = load(path)
    if "val/accuracy" not in result.data:
        raise SystemExit(f"{path}: has no accuracy on val; make tune measures there")
    return result


def _collect(path: Path, load: Callable, results: list[Result], problems: list[str]):
    """Adds what `load` makes of `path` to `results`, or what is wrong with it to `problems`."""
    try:
        result = load(path)
        sound.check(result)
    except SystemExit as error:
        missing = not path.exists()
        problems.append(f"{error}; make all makes it" if missing else str(error))
    else:
        results.append(result)


def _of_what_lies_there(
    results: list[Result], packs: Mapping[str, str]
) -> tuple[list[Result], list[str]]:
    """(results, problems): one of weights or images that were replaced is none of the study's."""
    kept, problems = [], []
    for result in results:
        unlike = list(origins.unlike(result.path, result.attrs, packs))
        problems += unlike
        if not unlike:
            kept.append(result)
    return kept, problems


def _one_of_each(results: list[Result]) -> tuple[list[Result], list[str]]:
    """(results, problems): of two files of the same thing, one lies in a folder not its own."""
    kept, problems, places = [], [], {}
    for result in results:
        what = result.stage, result.task, result.minimum
        keys = [(*what, group) for group in result.groups or [""]]
        other = next((places[key] for key in keys if key in places), None)
        if other:
            problems.append(
                f"{result.path}: is of {result.minimum}, as {other} is; one of them lies in the "
                "wrong folder"
            )
        else:
            places.update(dict.fromkeys(keys, result.path))
            kept.append(result)
    return kept, problems


def _of_one_setting(results: list[Result]) -> tuple[list[Result], list[str]]:
    """(results, problems): all files of a minimum name one method, setting and seed."""
    kept, problems, known = [], [], {}
    for result in results:
        others = []  # files that say otherwise
        said = zip(result.methods, result.settings_of_minima, result.seeds)
        for minimum, whose in zip(result.minima, said):
            first, path = known.setdefault(minimum, (whose, result.path))
            if whose != first:
                others.append(
                    f"that {minimum} is of {whose[1]} ({whose[0]}), seed {whose[2]}, and {path}"
                )
        if others:
            problems.append(f"{result.path}: says {others[0]} says otherwise; {sound.MEND}")
        else:
            kept.append(result)
    return kept, problems


def _order(result: Result) -> tuple:
    """Sorts results by what they are, so that the order of files on the command line is nothing.

    Comparisons of independent runs before those of a shared start; a passport's first volume, with
    clean images, before its second.
    """
    return (
        KINDS.index(result.kind),
        bool(result.attrs.get("shared_start")),
        result.kind == "passport" and "clean" not in result.groups,
        result.methods,
        [natural(setting) for setting in result.settings_of_minima],
        result.seeds,
        result.minima,
        result.task,
        natural(result.stage),
        str(result.path),
    )


def natural(word: str) -> list:
    """A key that sorts numbers in words as numbers: adam@lr_5e-4 before adam@lr_1e-3."""
    parts = re.split(r"(\d+(?:\.\d+)?(?:e-?\d+)?)", word)
    return [float(part) if place % 2 else part for place, part in enumerate(parts)]


def grouped(items: Iterable, key: Callable) -> dict:
    """{key: its items}, in order of appearance."""
    result = {}
    for item in items:
        result.setdefault(key(item), []).append(item)
    return result
