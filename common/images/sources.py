"""Where images come from: each function lists the classes of one kind of source, and gives how its
items are drawn, split into train, val and test. Folders of images have a file of their own.

What an item shows is decoded, or drawn, by `common.images.prepare`.
"""

import argparse
import hashlib
import tarfile
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlretrieve

import numpy as np

from common import files
from common.images import glyphs
from common.images.packs import SPLITS

GLYPHS = {"letters": glyphs.LETTERS, "capitals": glyphs.CAPITALS, "digits": glyphs.DIGITS}
CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
CIFAR10_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"  # from the same site


class Item(NamedTuple):
    """One image of a pack to be."""

    image: str | np.ndarray | glyphs.Glyph  # a path, pixels (H, W, 3) uint8, or what to draw
    label: int
    split: int  # a position in SPLITS
    name: str  # what the pack says about where it came from


# Gives the items, other ones in the place of those whose names it is given.
Draw = Callable[[Collection[str]], list[Item]]


def shown(name: str | Path) -> str:
    """A file's name as text that can be printed and stored, whatever bytes it has."""
    return str(name).encode(errors="backslashreplace").decode()


def glyph_items(name: str, args: argparse.Namespace) -> tuple[list[str], Draw]:
    """(classes, how to draw the items) of one of GLYPHS."""
    characters = GLYPHS.get(name)
    if characters is None:
        raise SystemExit(f"glyphs:{name}: there are glyphs:{', glyphs:'.join(GLYPHS)}")
    counts = args.train_per_class or 100, args.val_per_class, args.test_per_class or 20
    items = []
    for split, count in enumerate(counts):
        for label, character in enumerate(characters):
            for index in range(count):
                glyph = glyphs.Glyph(character, split, index, args.seed)
                items.append(Item(glyph, label, split, f"{character}/{split}/{index}"))
    return characters, lambda broken: items


def draw_splits(
    classes: list[str],
    to_train: dict,
    to_test: dict,
    args: argparse.Namespace,
    broken: Collection[str] = (),
    where: str = "",
) -> list[Item]:
    """Val and train drawn by seed from `to_train`, test from `to_test`: {class: [(image, name)]}.

    In the place of those whose names are in `broken` come the next that are drawn. Within a class
    and split the items keep their order. `where` ends the line that says that there are too few.
    """
    needed_train = args.val_per_class + (args.train_per_class or 1)
    needed_test = args.test_per_class or 1
    items = []
    for label, name in enumerate(classes):
        train, test = to_train.get(name, []), to_test.get(name, [])
        if len(train) < needed_train or len(test) < needed_test:
            raise SystemExit(
                f"{args.source}: class {shown(name)} has {len(train)} images to train on and "
                f"{len(test)} to test; {needed_train} and {needed_test} are needed{where}"
            )
        rng = np.random.default_rng([args.seed, label])
        order, test_order = (
            [
                position
                for position in rng.permutation(len(images))
                if images[position][1] not in broken
            ]
            for images in (train, test)
        )
        val_order, train_order = order[: args.val_per_class], order[args.val_per_class :]
        for split, images, positions in (
            ("train", train, train_order[: args.train_per_class or None]),
            ("val", train, val_order),
            ("test", test, test_order[: args.test_per_class or None]),
        ):
            for position in sorted(positions):
                image, text = images[position]
                items.append(Item(image, label, SPLITS.index(split), text))
    return items


def cifar10_items(root: Path, args: argparse.Namespace) -> tuple[list[str], Draw]:
    """(classes, how to draw the items) of CIFAR-10, from the archive of its binary version.

    It is downloaded if it is missing. (The version for Python is a pickle, which runs code.)
    """
    archive = root / Path(CIFAR10_URL).name
    if not archive.exists():
        _download_cifar10(archive)
    with open(archive, "rb") as file:
        if hashlib.file_digest(file, "md5").hexdigest() != CIFAR10_MD5:
            raise SystemExit(f"{archive}: wrong checksum; move it away, and it is downloaded again")
    with tarfile.open(archive) as tar:

        def member(name):
            data = tar.extractfile(f"cifar-10-batches-bin/{name}").read()
            return np.frombuffer(data, np.uint8)

        classes = bytes(member("batches.meta.txt")).decode().split()
        train = np.concatenate([member(f"data_batch_{number}.bin") for number in range(1, 6)])
        test = member("test_batch.bin")
    to_train = _cifar10_by_class(classes, train, "train")
    to_test = _cifar10_by_class(classes, test, "test")
    return classes, partial(draw_splits, classes, to_train, to_test, args)


def _download_cifar10(archive: Path):
    print(f"{archive}: downloading CIFAR-10, 170 MB", flush=True)
    try:
        with files.atomic(archive) as part:
            urlretrieve(CIFAR10_URL, part)
    except OSError as error:
        raise SystemExit(
            f"{archive}: not there and cannot be downloaded ({error}); "
            "CIFAR=folder takes images by class"
        ) from None


def _cifar10_by_class(classes: list[str], data: np.ndarray, folder: str) -> dict[str, list]:
    """{class: [(pixels (32, 32, 3), name)]}. An image is a label, then its red, green and blue."""
    rows = data.reshape(-1, 1 + 3 * 32 * 32)
    images = {name: [] for name in classes}
    for index, row in enumerate(rows):
        pixels = row[1:].reshape(3, 32, 32).transpose(1, 2, 0)
        images[classes[row[0]]].append((pixels, f"{folder}/{index}"))
    return images
