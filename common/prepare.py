"""Packs a source of images into one HDF5 file: uint8 images, labels, fixed splits, class names, where each came from.

SOURCE is `glyphs:letters` or `glyphs:digits` (drawn, nothing to download), `cifar10:FOLDER` (downloaded there if it is missing), or a folder
of images by class: train/CLASS/*, and val/CLASS/* or test/CLASS/* (test if both) as our test; also ImageNet-100's own layout, train.X1/ … and
val.X/. Our val is drawn from train, stratified. Each image is decoded and resized once: shorter side to the size, centre cropped, antialiased.
"""
import json
import os
import sys
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from common import cli, files, glyphs

CHUNK = 64  # images that a worker is given at a time
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff"}


def parser():
    parser = cli.Parser(__doc__)
    parser.add_argument("source", metavar="SOURCE")
    parser.add_argument("--out", required=True, metavar="FILE", help="the pack")
    parser.add_argument("--image-size", type=cli.count, default=112, help="side in pixels")
    parser.add_argument("--classes", type=cli.whole, default=0, metavar="N", help="classes drawn at random by --seed; 0: all")
    parser.add_argument("--class-list", metavar="FILE", help="text file with one class (folder name) a line, instead of a draw")
    parser.add_argument("--train-per-class", type=cli.whole, default=0, metavar="N", help="0: all that val leaves")
    parser.add_argument("--val-per-class", type=cli.count, default=50, metavar="N")
    parser.add_argument("--test-per-class", type=cli.whole, default=0, metavar="N", help="0: all")
    parser.add_argument("--seed", type=cli.whole, default=0, help="of every draw: classes, val, subsets, glyphs")
    parser.add_argument("--skip-broken", action="store_true", help="leave unreadable images out and count them, instead of stopping")
    parser.add_argument("--workers", type=cli.count, default=len(os.sched_getaffinity(0)), help="processes that decode")
    return parser


def choose_classes(found, args):
    """The class names to pack, sorted: listed in a file, drawn by seed, or all."""
    if args.class_list:
        wanted = [line.split()[0] for line in Path(args.class_list).read_text().splitlines() if line.strip()]
        missing = sorted(set(wanted) - set(found))
        if missing:
            raise SystemExit(f"{args.class_list}: {args.source} has no class {missing[0]} ({len(missing)} of {len(wanted)} missing)")
        return sorted(wanted)
    if args.classes > len(found):
        raise SystemExit(f"{args.source}: has {len(found)} classes, --classes asks for {args.classes}")
    return sorted(np.random.default_rng(args.seed).choice(sorted(found), args.classes or len(found), replace=False).tolist())


def glyph_items(name, args):
    """(classes, items): what to draw. An item is (source, label, split, description)."""
    letters = {"letters": glyphs.LETTERS, "digits": glyphs.DIGITS}.get(name)
    if letters is None:
        raise SystemExit(f"glyphs:{name}: there are glyphs:letters and glyphs:digits")
    counts = [args.train_per_class or 100, args.val_per_class, args.test_per_class or 20]
    return letters, [((letters, label, split, index, args.seed), label, split, f"{letters[label]}/{split}/{index}")
                     for split, count in enumerate(counts) for label in range(len(letters)) for index in range(count)]


def folder_items(root, args):
    """(classes, items) of a folder of images by class."""
    folders = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    train = [path for path in folders if path.name == "train" or path.name.startswith("train.X")]
    test = [p for p in folders if p.name == "test"] or [p for p in folders if p.name in ("val", "val.X")]
    if not train or not test:
        raise SystemExit(f"{root}: needs train/CLASS/images and test/CLASS/images or val/CLASS/images (or ImageNet-100's train.X1/ … val.X/)")
    listed = [_by_class(train), _by_class(test)]
    classes = choose_classes(sorted(listed[0]), args)
    items = []
    for label, name in enumerate(classes):
        images = [sorted(part.get(name, [])) for part in listed]
        rng = np.random.default_rng([args.seed, label])
        trainval = [images[0][i] for i in rng.permutation(len(images[0]))]
        tested = [images[1][i] for i in rng.permutation(len(images[1]))]
        need = args.val_per_class + (args.train_per_class or 1)
        if len(trainval) < need or len(tested) < (args.test_per_class or 1):
            raise SystemExit(f"{root}: class {name} has {len(trainval)} images to train on and {len(tested)} to test; "
                             f"{need} and {args.test_per_class or 1} are needed")
        val, rest = trainval[:args.val_per_class], trainval[args.val_per_class:]
        for split, paths in enumerate((rest[:args.train_per_class or None], val, tested[:args.test_per_class or None])):
            items += [(str(path), label, split, str(path.relative_to(root))) for path in sorted(paths)]
    return classes, items


def _by_class(folders):
    """{class: [image paths]} over one or more folders of classes."""
    found = {}
    for folder in folders:
        for name in sorted(path for path in folder.iterdir() if path.is_dir()):
            paths = [path for path in name.iterdir() if path.suffix.lower() in SUFFIXES]
            found.setdefault(name.name, []).extend(paths)
    return found


def cifar10_items(root, args):
    """(classes, items) of CIFAR-10 as torchvision keeps it; it downloads itself where there is a network."""
    from torchvision.datasets import CIFAR10  # here: only this source needs it, and importing it takes a second
    try:
        both = [CIFAR10(root, train=True, download=True), CIFAR10(root, train=False)]
    except (OSError, RuntimeError) as error:
        raise SystemExit(f"{root}: CIFAR-10 is not there and cannot be downloaded ({error}); give a folder of images by class") from None
    classes, items = both[0].classes, []
    for label in range(10):
        rng = np.random.default_rng([args.seed, label])
        at = [rng.permutation(np.flatnonzero(np.array(part.targets) == label)) for part in both]
        val, rest = at[0][:args.val_per_class], at[0][args.val_per_class:]
        for split, index in enumerate((rest[:args.train_per_class or None], val, at[1][:args.test_per_class or None])):
            part = both[split == 2]
            items += [(part.data[i], label, split, f"{'test' if split == 2 else 'train'}/{i}") for i in sorted(index)]
    return classes, items


def picture(item, size):
    """uint8 (size, size, 3) RGB of one item, or the text of what is wrong with it."""
    source = item[0]
    if isinstance(source, tuple):
        classes, label, split, index, seed = source
        return glyphs.image(classes, label, split, index, size, seed)
    try:
        with (Image.fromarray(source) if isinstance(source, np.ndarray) else Image.open(source)) as image:
            image = image.convert("RGB")
            left, top = ((side - min(image.size)) / 2 for side in image.size)
            box = left, top, left + min(image.size), top + min(image.size)
            return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return f"{source}: not a readable image ({error})"


def pack(classes, items, args):
    """Writes the pack: images are streamed, two chunks a worker in memory at a time."""
    size, kept, broken, ahead = args.image_size, [], [], deque()
    with files.write(args.out) as file, ProcessPoolExecutor(args.workers) as pool:
        images = file.create_dataset("images", (len(items), size, size, 3), np.uint8)
        chunks = iter([items[first:first + CHUNK] for first in range(0, len(items), CHUNK)])
        bar = tqdm(total=len(items), desc=Path(args.out).name, unit=" images", disable=not sys.stderr.isatty())
        while len(kept) + len(broken) < len(items):
            ahead.extend((chunk, pool.map(partial(picture, size=size), chunk, chunksize=CHUNK)) for chunk in islice(chunks, 2 * args.workers - len(ahead)))
            done = list(zip(*ahead.popleft()))
            good = [(item, image) for item, image in done if not isinstance(image, str)]
            broken += [words for _, words in done if isinstance(words, str)]
            if broken and not args.skip_broken:
                raise SystemExit(f"{broken[0]}; mend or remove it, or give --skip-broken")
            if good:
                images[len(kept):len(kept) + len(good)] = [image for _, image in good]
                kept += [item for item, _ in good]
            bar.update(len(done))
        bar.close()
        if broken:
            print(f"{args.out}: {len(broken)} unreadable images left out, the first: {broken[0]}", flush=True)
            whole = images[:len(kept)]
            del file["images"]
            images = file.create_dataset("images", data=whole)
        labels = file.create_dataset("labels", data=np.array([item[1] for item in kept], np.int64))
        split = file.create_dataset("split", data=np.array([item[2] for item in kept], np.uint8))
        split.attrs["names"] = ["train", "val", "test"]
        file.create_dataset("from", data=[item[3] for item in kept])
        pieces = (images[first:first + 4096].tobytes() for first in range(0, len(kept), 4096))
        fingerprint = files.sha256(pieces, labels[:].tobytes(), split[:].tobytes())
        settings = {name: value for name, value in vars(args).items() if name not in ("out", "workers")}
        file.attrs.update(files.stamp(settings, args.seed, fingerprint, "cpu"))
        file.attrs.update(kind="pack", classes=json.dumps(classes), image_size=size, source=args.source)
        counts = np.bincount(split[:], minlength=3)
    print(f"{args.out}: {len(classes)} classes at {size} px, {counts[0]} train + {counts[1]} val + {counts[2]} test images", flush=True)


def main():
    args = parser().parse_args()
    kind, _, name = args.source.partition(":")
    if kind == "glyphs":
        pack(*glyph_items(name, args), args)
    elif kind == "cifar10":
        pack(*cifar10_items(Path(name or "."), args), args)
    else:
        pack(*folder_items(Path(args.source), args), args)


if __name__ == "__main__":
    main()
