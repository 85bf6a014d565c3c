"""A folder of images by class: which folders are classes, which files are pictures, which classes
are packed. What is left out is said.
"""

import argparse
import codecs
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.images import pictures
from common.images.sources import Draw, draw_splits, shown

# What systems and servers put beside people's files, in small letters; what begins with a dot is
# theirs too.
SYSTEM = {
    "desktop.ini",
    "ehthumbs.db",
    "icon\r",
    "thumbs.db",
    "$recycle.bin",
    "#recycle",
    "#snapshot",
    "@eadir",
    "@recently-snapshot",
    "@recycle",
    "__macosx",
    "__pycache__",
    "found.000",
    "lost+found",
    "network trash folder",
    "recycled",
    "recycler",
    "system volume information",
    "temporary items",
    "~snapshot",
}
SYNSET = re.compile(r"(n\d+)\s")  # n01440764 tench, Tinca tinca
NUMBERED = re.compile(r"(.*\S)\s+\d+")  # tench 0
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}

Images = dict[str, list[tuple[str, str]]]  # {class: [(path, name)]}, sorted by path


class Part(NamedTuple):
    """Folders of a source that are read as one: train/, or train.X1/ and train.X2/."""

    folders: list[Path]
    images: Images
    left_out: dict[str, list[str]]  # what of the kinds that it is named for

    @property
    def name(self) -> str:
        return ", ".join(f"{folder.name}/" for folder in self.folders)


def items(root: Path, args: argparse.Namespace) -> tuple[list[str], Draw]:
    """(classes, how to draw the items) of a folder of images by class.

    SystemExit with one line where there is no such folder, or nothing to train or to test on.
    """
    folders = [path for path in _entries(root) if path.is_dir() and not is_system(path)]
    train = [path for path in folders if path.name == "train" or path.name.startswith("train.X")]
    tests = [
        [path for path in folders if path.name == "test"],
        [path for path in folders if path.name in ("val", "val.X")],
    ]
    tests = [part for part in tests if part]
    if not train or not tests:
        found = ", ".join(shown(path.name) for path in folders[:5]) or "no folder"
        raise SystemExit(
            f"{shown(root)}: needs train/CLASS/images and test/CLASS/images or val/CLASS/images "
            f"(or ImageNet-100's train.X1/ … val.X/); found: {found}"
        )
    to_train = by_class(root, train)
    if not to_train.images:
        raise SystemExit(
            f"{shown(train[0])}: has no folder in it; the names of its folders are the labels"
        )
    to_test = _choose_test(root, to_train, [by_class(root, part) for part in tests])
    for part in to_train, to_test:
        for kind, names in part.left_out.items():
            say_left_out(root, kind, names)
    used = [*to_train.folders, *to_test.folders, *tests[0]]
    say_left_out(root, "folders beside those", [path.name for path in folders if path not in used])
    only_test = sorted(set(to_test.images) - set(to_train.images))
    say_left_out(root, f"classes that only {to_test.name} has", only_test)
    empty = [
        name for name, found in to_train.images.items() if not found and name not in to_test.images
    ]
    say_left_out(root, f"folders of {to_train.name} without a picture", empty)
    for name in empty:
        del to_train.images[name]
    classes = choose_classes(sorted(to_train.images), args)
    where = f" (to train: {to_train.name}; to test: {to_test.name})"
    for name in classes:
        if not to_train.images[name] or not to_test.images.get(name):
            where += _deeper([path / name for path in to_train.folders + to_test.folders])

    def draw(broken):
        return draw_splits(classes, to_train.images, to_test.images, args, broken, where)

    return classes, draw


def say_left_out(root: Path, kind: str, names: list[str]):
    """A line about what of a folder becomes no image, if there is any."""
    if names:
        first = shown(names[0])
        print(f"{shown(root)}: left out: {len(names)} {kind} (the first: {first})", flush=True)


def _entries(folder: Path) -> list[Path]:
    """What lies in a folder, sorted; SystemExit with one line where it cannot be listed."""
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        raise SystemExit(f"{shown(folder)}: no such folder") from None
    except OSError as error:
        raise SystemExit(f"{shown(folder)}: cannot be read ({error.strerror})") from None


def is_system(path: Path) -> bool:
    """Whether the system or a program put it there, and no person: by its name."""
    name = path.name.lower()
    return name.startswith(".") or name in SYSTEM


def by_class(root: Path, folders: list[Path]) -> Part:
    """The pictures of one or more folders that hold a folder a class."""
    images, left_out = {}, defaultdict(list)
    for folder in folders:
        for path in _entries(folder):
            name = shown(path.relative_to(root))
            if is_system(path):
                left_out[f"hidden or system entries in {folder.name}/"].append(name)
            elif path.is_symlink() and not path.exists():
                raise SystemExit(
                    f"{shown(path)}: a link that leads nowhere; mend it or move it away"
                )
            elif path.is_dir():
                images.setdefault(path.name, []).extend(_images(root, path, left_out))
            else:
                left_out[f"files in {folder.name}/ that lie in no class's folder"].append(name)
    return Part(folders, images, left_out)


def _images(root: Path, folder: Path, left_out: dict[str, list[str]]) -> Iterator[tuple[str, str]]:
    """(path, name) of each picture in the folder of a class; the rest goes to `left_out`."""
    for path in _entries(folder):
        part, name = f"{folder.parent.name}/", shown(path.relative_to(root))
        if is_system(path):
            left_out[f"hidden or system files in {part}CLASS/"].append(name)
        elif path.suffix.lower() in pictures.suffixes():
            yield str(path), name
        elif path.is_dir():  # asked last: it takes long for millions of files
            left_out[f"folders in {part}CLASS/"].append(name)
        else:
            left_out[f"files of other kinds in {part}CLASS/"].append(name)


def _choose_test(root: Path, to_train: Part, tests: list[Part]) -> Part:
    """test/, or val/ where test/ has no picture of a class of train/; SystemExit if neither has."""
    for part in tests:
        if any(part.images.get(name) for name in to_train.images):
            if part is not tests[0]:
                print(
                    f"{shown(root)}: test/ is left out, {_in_words(tests[0])}; {part.name} is the "
                    "test",
                    flush=True,
                )
            return part
    # Where classes stand, but without a picture, the class is named.
    for part in tests:
        if set(part.images) & set(to_train.images):
            return part
    raise SystemExit(
        f"{shown(tests[0].folders[0])}: {_in_words(tests[0])}; sort its pictures into folders that "
        f"are named as those of {to_train.name}"
    )


def _in_words(part: Part) -> str:
    """What was found where no picture of a class is."""
    loose = sum(len(names) for kind, names in part.left_out.items() if "no class" in kind)
    named = f" ({', '.join(map(shown, sorted(part.images)[:3]))})" if part.images else ""
    return (
        f"has no picture in a folder of a class: {len(part.images)} folders{named} and {loose} "
        "files beside them"
    )


def _deeper(folders: list[Path]) -> str:
    """Says where the pictures of a class are that lie one folder deeper; "" if there are none."""
    for folder in folders:
        for path in _entries(folder) if folder.is_dir() else []:
            if path.is_dir() and not is_system(path):
                kinds = {file.suffix.lower() for file in _entries(path)}
                if kinds & pictures.suffixes():
                    return f"; pictures lie one folder deeper, in {shown(path)}: move them up"
    return ""


def choose_classes(available: list[str], args: argparse.Namespace) -> list[str]:
    """The class names to pack, sorted: listed in a file, drawn by seed, or all; without those that
    are left out.
    """
    left_out = _listed_classes(args.leave_out, available, args.source) if args.leave_out else []
    if args.class_list:
        wanted = _listed_classes(args.class_list, available, args.source)
        if both := sorted(set(wanted).intersection(left_out)):
            raise SystemExit(
                f"{args.leave_out}: leaves out {shown(both[0])}, which {args.class_list} lists"
            )
    else:
        rest = sorted(set(available).difference(left_out))
        if args.classes > len(rest):
            without = f" that {args.leave_out} does not leave out" if left_out else ""
            raise SystemExit(
                f"{args.source}: has {len(rest)} classes{without}, --classes asks for "
                f"{args.classes}"
            )
        rng = np.random.default_rng(args.seed)
        wanted = rng.choice(rest, args.classes or len(rest), replace=False).tolist()
    if len(wanted) < 2:
        raise SystemExit(
            f"{args.class_list or args.source}: {len(wanted)} class, and nothing to tell "
            "apart; 2 or more are needed"
        )
    return sorted(wanted)


def _listed_classes(path: str, available: list[str], source: str) -> list[str]:
    """The classes that the file at `path` lists, as many as its lines; SystemExit with a line that
    is none of `available`.
    """
    content = Path(path).read_bytes()
    marks = [mark for mark in BYTE_ORDER_MARKS if content.startswith(mark)]
    text = content.decode(BYTE_ORDER_MARKS[marks[0]] if marks else "utf-8", "surrogateescape")
    wanted = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        name = _class_of_line(line.rstrip("\r"), available)
        where = f"{path}: line {number}, {shown(line.strip())!r}"
        if name is None:
            raise SystemExit(f"{where}: {source} has no folder of that name to train on")
        if name in wanted:
            raise SystemExit(f"{where}: the class stands in line {wanted[name]} already")
        wanted[name] = number
    return list(wanted)


def _class_of_line(line: str, available: list[str]) -> str | None:
    """The class that a line is, or begins with: before a tab, after a synset, before a number."""
    composed = {unicodedata.normalize("NFC", name): name for name in available}
    candidates = [line, line.strip(), line.split("\t")[0].strip()]
    for pattern in SYNSET.match, NUMBERED.fullmatch:
        if found := pattern(line.strip()):
            candidates.append(found[1])
    for candidate in candidates:
        if candidate in available:
            return candidate
        if unicodedata.normalize("NFC", candidate) in composed:  # as macOS writes names
            return composed[unicodedata.normalize("NFC", candidate)]
    return None
