"""Packs a source of images into one HDF5 file: uint8 images, labels, fixed splits, class names,
where each came from.

SOURCE is `glyphs:letters`, `glyphs:capitals` or `glyphs:digits` (drawn, nothing to download),
`cifar10:FOLDER` (downloaded there if it is missing), or a folder of images by class: train/CLASS/*,
and val/CLASS/* or test/CLASS/* (test if there are both) as our test; also ImageNet-100's own
layout, train.X1/ … and val.X/. Our val is drawn from train, stratified. Each image is decoded and
resized once: shorter side to the size, centre cropped, antialiased.

All kinds of pictures are read that Pillow reads by itself. Hidden files and folders, those of the
system (.ipynb_checkpoints, __MACOSX, Thumbs.db), files of other kinds and subfolders of a class are
left out, with a line. So is a test/ that is not sorted by class, where val/ is.

A picture is what a viewer shows: turned upright (EXIF), its first frame, 16 bits scaled to 8,
transparency on white, CMYK and palettes as RGB; other metadata are not looked at. What cannot be
read, has more than 178 million pixels, or values of unknown range (32-bit, float, signed) stops; or
with --skip-broken, another one takes its place, and it is counted. Links are followed. Test images
that also stand in train or val, pixel by pixel, are counted, not removed.
"""

import argparse
import hashlib
import json
import os
import sys
import warnings
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import h5py
import numpy as np
from PIL import Image
from tqdm import tqdm

from common import cli, files, provenance
from common.images import folders, glyphs, pictures, sources
from common.images.packs import SPLITS
from common.images.sources import Item

CHUNK = 64  # images that a worker is given at a time
DIGEST = 8  # bytes


def parser() -> cli.Parser:
    parser = cli.Parser(__doc__)
    parser.add_argument("source", metavar="SOURCE")
    parser.add_argument("--out", required=True, metavar="FILE", help="the pack")
    parser.add_argument(
        "--image-size", type=cli.integer(1, 4096), default=112, help="side in pixels"
    )
    parser.add_argument(
        "--classes",
        type=cli.natural,
        default=0,
        metavar="N",
        help="classes drawn at random by --seed; 0: all",
    )
    parser.add_argument(
        "--class-list",
        metavar="FILE",
        help="text file with one class (name of a folder) a line, instead of a draw",
    )
    parser.add_argument(
        "--leave-out",
        metavar="FILE",
        help="text file like that of --class-list: classes that are not drawn",
    )
    parser.add_argument(
        "--train-per-class", type=cli.natural, default=0, metavar="N", help="0: all that val leaves"
    )
    parser.add_argument("--val-per-class", type=cli.count, default=50, metavar="N")
    parser.add_argument("--test-per-class", type=cli.natural, default=0, metavar="N", help="0: all")
    parser.add_argument(
        "--seed", type=cli.natural, default=0, help="of every draw: classes, val, subsets, glyphs"
    )
    parser.add_argument(
        "--skip-broken",
        action="store_true",
        help="take others for unreadable images and count these, instead of stopping",
    )
    parser.add_argument(
        "--workers",
        type=cli.integer(1, 255),
        default=len(os.sched_getaffinity(0)),
        help="processes that decode",
    )
    return parser


def main():
    args = parser().parse_args()
    # PIL warns of large images and damaged metadata, which are read.
    warnings.filterwarnings("ignore", module="PIL")
    kind, _, name = args.source.partition(":")
    if kind == "glyphs":
        classes, draw = sources.glyph_items(name, args)
    elif kind == "cifar10":
        classes, draw = sources.cifar10_items(Path(name or "."), args)
    else:
        classes, draw = folders.items(Path(args.source), args)
    asked = items = draw(())
    broken = {}  # {name of an item: what is wrong with its picture}
    while True:
        try:
            return pack(classes, items, args)
        except Unreadable as error:  # a dataset is as long as it was begun: once more
            broken |= error.broken
            items = replace_broken(items, draw, broken, args)
            say_broken(classes, asked, items, broken, args)


class Unreadable(Exception):
    """Some pictures cannot be read; `broken` is {name: what is wrong with it}."""

    def __init__(self, broken: dict[str, str]):
        super().__init__()
        self.broken = broken


def replace_broken(
    items: list[Item], draw: sources.Draw, broken: dict[str, str], args: argparse.Namespace
) -> list[Item]:
    """The items, others in the place of broken ones; adds to `broken` which of those are."""
    readable = {item.name for item in items} - broken.keys()
    with files.worker_pool(args.workers) as pool:
        while new := [item for item in draw(broken) if item.name not in readable]:
            for decoded in decode_ahead(new, args, pool):
                for item, image in decoded:
                    if isinstance(image, str):
                        broken[item.name] = image
                    else:
                        readable.add(item.name)
    return draw(broken)


def say_broken(
    classes: list[str],
    asked: list[Item],
    items: list[Item],
    broken: dict[str, str],
    args: argparse.Namespace,
):
    """Says what was left out, and where it leaves fewer images than were asked for.

    SystemExit where it leaves none.
    """
    first = next(iter(broken.values()))
    print(f"{args.out}: {len(broken)} unreadable images left out, the first: {first}", flush=True)
    wanted, found = (
        Counter((item.label, item.split) for item in chosen) for chosen in (asked, items)
    )
    short = sorted(part for part in wanted if found[part] < wanted[part])
    for label, split in short:
        if not found[label, split]:
            raise SystemExit(
                f"{args.source}: class {sources.shown(classes[label])} has no readable image left "
                f"for {SPLITS[split]}"
            )
    if short:
        label, split = short[0]
        print(
            f"{args.out}: {len(short)} parts are short of readable images (the first: class "
            f"{sources.shown(classes[label])} has {found[short[0]]} of {wanted[short[0]]} for "
            f"{SPLITS[split]})",
            flush=True,
        )


def pack(classes: list[str], items: list[Item], args: argparse.Namespace):
    """Writes the pack; Unreadable, and nothing written, where pictures are broken."""
    with files.write(args.out) as file:
        with files.worker_pool(args.workers) as pool:
            digests = store_images(file, items, args, pool)
        labels = np.array([item.label for item in items], np.int64)
        split = np.array([item.split for item in items], np.uint8)
        names = [item.name for item in items]
        file["labels"], file["split"] = labels, split
        file["split"].attrs["names"] = SPLITS
        file["from"] = names
        settings = {
            name: value for name, value in vars(args).items() if name not in ("out", "workers")
        }
        fingerprint = files.sha256(pixels(file), labels.tobytes(), split.tobytes())
        leaked, conflicting = find_duplicates(digests, labels, split, names, args.out)
        file.attrs.update(provenance.stamp(settings, args.seed, fingerprint, "cpu"))
        file.attrs.update(
            kind="pack",
            contents=files.sha256(fingerprint, classes, args.image_size),
            classes=json.dumps(classes),
            image_size=args.image_size,
            source=args.source,
            duplicates=leaked,
            conflicting=conflicting,
        )
    counts = np.bincount(split, minlength=len(SPLITS))
    counted = " + ".join(f"{count} {name}" for count, name in zip(counts, SPLITS))
    print(
        f"{args.out}: {len(classes)} classes at {args.image_size} px, {counted} images", flush=True
    )


def pixels(file: h5py.File) -> Iterator[bytes]:
    """The bytes of the images, a chunk in memory at a time."""
    for first in range(0, len(file["images"]), CHUNK):
        yield file["images"][first : first + CHUNK].tobytes()


def store_images(
    file: h5py.File, items: list[Item], args: argparse.Namespace, pool: ProcessPoolExecutor
) -> np.ndarray:
    """Decodes the items into the dataset "images", in their order.

    Returns a digest (N,) uint64 of each image's pixels. Where some cannot be read: Unreadable, or
    SystemExit with the first one without --skip-broken.
    """
    size = args.image_size
    images = file.create_dataset("images", (len(items), size, size, 3), np.uint8)
    broken, digests = {}, bytearray()
    progress = tqdm(
        total=len(items),
        desc=Path(args.out).name,
        unit=" images",
        disable=not sys.stderr.isatty(),
    )
    for decoded in decode_ahead(items, args, pool):
        broken |= {item.name: image for item, image in decoded if isinstance(image, str)}
        if broken and not args.skip_broken:
            pool.shutdown(cancel_futures=True)
            first = next(iter(broken.values()))
            raise SystemExit(f"{first}; mend it or move it away, or give --skip-broken")
        if not broken:
            start = len(digests) // DIGEST
            images[start : start + len(decoded)] = [image for _, image in decoded]
            for _, image in decoded:
                digests += hashlib.blake2b(image.tobytes(), digest_size=DIGEST).digest()
        progress.update(len(decoded))
    progress.close()
    if broken:
        raise Unreadable(broken)
    return np.frombuffer(digests, np.uint64)


def decode_ahead(
    items: list[Item], args: argparse.Namespace, pool: ProcessPoolExecutor
) -> Iterator[list[tuple[Item, np.ndarray | str]]]:
    """Yields [(item, its picture or what is wrong with it)] a chunk at a time, in order.

    Two chunks a worker are in work or in memory.
    """
    decode = partial(picture, size=args.image_size)
    waiting = deque()
    for first in range(0, len(items), CHUNK):
        chunk = items[first : first + CHUNK]
        pictures = pool.map(decode, [item.image for item in chunk], chunksize=CHUNK)
        waiting.append((chunk, pictures))
        if len(waiting) == 2 * args.workers:
            yield list(zip(*waiting.popleft()))
    while waiting:
        yield list(zip(*waiting.popleft()))


def picture(image: str | np.ndarray | glyphs.Glyph, size: int) -> np.ndarray | str:
    """uint8 (size, size, 3) RGB of an item's image, or a line that says what is wrong with it."""
    if isinstance(image, glyphs.Glyph):
        return glyphs.picture(image, size)
    try:
        if isinstance(image, np.ndarray):
            return pictures.crop_and_resize(Image.fromarray(image), size)
        return pictures.read(image, size)
    except Exception as error:  # whatever Pillow raises on a damaged file: nearly anything
        message = " ".join(str(error).split())
        return f"{sources.shown(image)}: not a readable image ({message})"


def find_duplicates(
    digests: np.ndarray, labels: np.ndarray, split: np.ndarray, names: list[str], out: str
) -> tuple[int, int]:
    """Counts test images that are also in train or val, and images that also have another label.

    Equal `digests` (N,) are equal pixels. Prints a line with an example where there are any.
    """
    _, group = np.unique(digests, return_inverse=True)  # images with the same pixels
    test = split == SPLITS.index("test")
    leaked = test & np.isin(group, group[~test])
    labels_of_group = np.bincount(np.unique(np.stack([group, labels]), axis=1)[0])
    conflicting = labels_of_group[group] > 1

    def example(chosen, others):
        return f"pixel by pixel (the first: {names[chosen]} = {names[np.flatnonzero(others)[0]]})"

    if leaked.any():
        first = np.flatnonzero(leaked)[0]
        twin = example(first, (group == group[first]) & ~test)
        print(
            f"{out}: {leaked.sum()} of {test.sum()} test images are also in train or val, {twin}",
            flush=True,
        )
    if conflicting.any():
        first = np.flatnonzero(conflicting)[0]
        twin = example(first, (group == group[first]) & (labels != labels[first]))
        print(f"{out}: {conflicting.sum()} images also have another label, {twin}", flush=True)
    return int(leaked.sum()), int(conflicting.sum())


if __name__ == "__main__":
    main()
