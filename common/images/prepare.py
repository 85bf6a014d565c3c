"""Packs a source of images into one HDF5 file: uint8 images, labels, fixed splits, class names, where each came from.

SOURCE is `glyphs:letters` or `glyphs:digits` (drawn, nothing to download), `cifar10:FOLDER` (downloaded there if it is missing), or a folder
of images by class: train/CLASS/*, and val/CLASS/* or test/CLASS/* (test if both) as our test; also ImageNet-100's own layout, train.X1/ … and
val.X/. Our val is drawn from train, stratified. Each image is decoded and resized once: shorter side to the size, centre cropped, antialiased.

A picture is what a viewer shows: turned upright (EXIF), its first frame, 16 bits scaled to 8, transparency on white, CMYK and palettes as RGB. What
cannot be read, has more than 178 million pixels, or values of unknown range (32-bit, float) stops, or is left out by --skip-broken. Links are followed;
subfolders of a class are not. Test images that also stand in train or val, pixel by pixel, are counted, not removed.
"""

import hashlib
import json
import os
import sys
import warnings
from collections import deque
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps
from tqdm import tqdm

from common import cli, files, provenance
from common.images import glyphs, sources

CHUNK = 64  # images that a worker is given at a time


def parser():
    parser = cli.Parser(__doc__, alone=True)
    parser.add_argument("source", metavar="SOURCE")
    parser.add_argument("--out", required=True, metavar="FILE", help="the pack")
    parser.add_argument("--image-size", type=cli.side, default=112, help="side in pixels")
    parser.add_argument(
        "--classes",
        type=cli.whole,
        default=0,
        metavar="N",
        help="classes drawn at random by --seed; 0: all",
    )
    parser.add_argument(
        "--class-list",
        metavar="FILE",
        help="text file with one class (folder name) a line, instead of a draw",
    )
    parser.add_argument(
        "--train-per-class", type=cli.whole, default=0, metavar="N", help="0: all that val leaves"
    )
    parser.add_argument("--val-per-class", type=cli.count, default=50, metavar="N")
    parser.add_argument("--test-per-class", type=cli.whole, default=0, metavar="N", help="0: all")
    parser.add_argument(
        "--seed", type=cli.whole, default=0, help="of every draw: classes, val, subsets, glyphs"
    )
    parser.add_argument(
        "--skip-broken",
        action="store_true",
        help="leave unreadable images out and count them, instead of stopping",
    )
    parser.add_argument(
        "--workers",
        type=cli.few,
        default=len(os.sched_getaffinity(0)),
        help="processes that decode",
    )
    return parser


def picture(item, size):
    """uint8 (size, size, 3) RGB of one item, or the text of what is wrong with it."""
    source = item[0]
    if isinstance(source, tuple):
        classes, label, split, index, seed = source
        return glyphs.image(classes, label, split, index, size, seed)
    try:
        if isinstance(source, str) and not os.path.isfile(
            source
        ):  # opening a pipe would wait for ever
            raise ValueError("not a file")
        with (
            Image.fromarray(source) if isinstance(source, np.ndarray) else Image.open(source)
        ) as image:
            image = _rgb(image)
            left, top = ((side - min(image.size)) / 2 for side in image.size)
            box = left, top, left + min(image.size), top + min(image.size)
            return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box))
    except (
        Exception
    ) as error:  # there is nearly nothing that Pillow does not raise on one damaged file or another
        return f"{sources.shown(source)}: not a readable image ({' '.join(str(error).split())})"


def _rgb(image):
    """A picture as a viewer shows it: mode "RGB", upright, on white."""
    orientation = 1
    with suppress(Exception):  # damaged metadata turn nothing
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    if orientation != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F"):
        raise ValueError(f"mode {image.mode}: the range of its values is unknown")
    if image.mode.startswith("I;16"):  # Pillow's own conversion clips them
        image = Image.fromarray(np.round(np.asarray(image) / 257).astype(np.uint8))
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image.convert("RGB")


def twins(marks, labels, split, names, out):
    """(test images that are also in train or val, images that also have another label), by digests `marks` (N,) of pixels; says so if there are any."""
    same = np.unique(marks, return_inverse=True)[1]
    test = split == 2
    leaked = test & np.isin(same, same[~test])
    conflicting = np.bincount(np.unique(np.stack([same, labels]), axis=1)[0])[same] > 1
    for found, words in (
        (leaked, f"of {test.sum()} test images are also in train or val"),
        (conflicting, "images also have another label"),
    ):
        if found.any():
            first = np.flatnonzero(found)[0]
            other = np.flatnonzero(
                (same == same[first]) & (~test if found is leaked else labels != labels[first])
            )[0]
            print(
                f"{out}: {found.sum()} {words}, pixel by pixel (the first: {names[first]} = {names[other]})",
                flush=True,
            )
    return int(leaked.sum()), int(conflicting.sum())


class Broken(Exception):
    """Some images were left out; holds the items that were not."""


def pack(classes, items, args):
    """Writes the pack: images are streamed, two chunks a worker in memory at a time."""
    size, kept, broken, ahead, marks = args.image_size, [], [], deque(), bytearray()
    with files.write(args.out) as file, files.workers(args.workers) as pool:
        images = file.create_dataset("images", (len(items), size, size, 3), np.uint8)
        chunks = iter([items[first : first + CHUNK] for first in range(0, len(items), CHUNK)])
        bar = tqdm(
            total=len(items),
            desc=Path(args.out).name,
            unit=" images",
            disable=not sys.stderr.isatty(),
        )
        while len(kept) + len(broken) < len(items):
            ahead.extend(
                (chunk, pool.map(partial(picture, size=size), chunk, chunksize=CHUNK))
                for chunk in islice(chunks, 2 * args.workers - len(ahead))
            )
            done = list(zip(*ahead.popleft()))
            good = [(item, image) for item, image in done if not isinstance(image, str)]
            broken += [words for _, words in done if isinstance(words, str)]
            if broken and not args.skip_broken:
                pool.shutdown(wait=False, cancel_futures=True)
                raise SystemExit(f"{broken[0]}; mend or remove it, or give --skip-broken")
            if good:
                images[len(kept) : len(kept) + len(good)] = [image for _, image in good]
                kept += [item for item, _ in good]
                marks += b"".join(
                    hashlib.blake2b(image.tobytes(), digest_size=8).digest() for _, image in good
                )
            bar.update(len(done))
        bar.close()
        for label, split in sorted({item[1:3] for item in items} - {item[1:3] for item in kept}):
            raise SystemExit(
                f"{args.source}: class {classes[label]} has no readable image left for {('train', 'val', 'test')[split]}"
            )
        if broken:
            print(
                f"{args.out}: {len(broken)} unreadable images left out, the first: {broken[0]}",
                flush=True,
            )
            raise Broken(kept)
        labels, split = (
            np.array([item[1] for item in kept], np.int64),
            np.array([item[2] for item in kept], np.uint8),
        )
        file["labels"], file["split"] = labels, split
        file["split"].attrs["names"] = ["train", "val", "test"]
        file.create_dataset("from", data=[item[3] for item in kept])
        pieces = (images[first : first + CHUNK].tobytes() for first in range(0, len(kept), CHUNK))
        fingerprint = files.sha256(pieces, labels.tobytes(), split.tobytes())
        duplicates, conflicting = twins(
            np.frombuffer(marks, np.uint64), labels, split, [item[3] for item in kept], args.out
        )
        settings = {
            name: value for name, value in vars(args).items() if name not in ("out", "workers")
        }
        file.attrs.update(provenance.stamp(settings, args.seed, fingerprint, "cpu"))
        file.attrs.update(
            kind="pack",
            classes=json.dumps(classes),
            image_size=size,
            source=args.source,
            duplicates=duplicates,
            conflicting=conflicting,
        )
        counts = np.bincount(split, minlength=3)
    print(
        f"{args.out}: {len(classes)} classes at {size} px, {counts[0]} train + {counts[1]} val + {counts[2]} test images",
        flush=True,
    )


def main():
    args = parser().parse_args()
    warnings.filterwarnings(
        "ignore", module="PIL"
    )  # of large images and damaged metadata, which are read
    kind, _, name = args.source.partition(":")
    if kind == "glyphs":
        classes, items = sources.glyph_items(name, args)
    elif kind == "cifar10":
        classes, items = sources.cifar10_items(Path(name or "."), args)
    else:
        classes, items = sources.folder_items(Path(args.source), args)
    try:
        pack(classes, items, args)
    except Broken as left:  # a dataset is as long as it was begun: once more
        pack(classes, left.args[0], args)


if __name__ == "__main__":
    main()
