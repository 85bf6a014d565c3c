"""Where images come from: each function lists (classes, items) of one kind of source, split into train, val and test.

An item is (what to decode or draw, label, split, name). Decoding, and the pack, are `common.images.prepare`'s.
"""

import hashlib
import tarfile
from pathlib import Path
from urllib.request import urlretrieve

import numpy as np

from common import files
from common.images import glyphs

SUFFIXES = {".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".ppm", ".tif", ".tiff"}
CIFAR10 = (
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    "c32a1d4ab5d03f1284b67883e8d87530",
)  # and its MD5, from the same site


def choose_classes(found, args):
    """The class names to pack, sorted: listed in a file, drawn by seed, or all."""
    if args.class_list:
        lines = map(
            str.strip, Path(args.class_list).read_text("utf-8", "surrogateescape").splitlines()
        )
        wanted = {
            line if line in found else line.split()[0] for line in lines if line
        }  # synset lists have a description after the name
        if missing := sorted(wanted - set(found)):
            raise SystemExit(
                f"{args.class_list}: {args.source} has no class {missing[0]} ({len(missing)} of {len(wanted)} missing)"
            )
    elif args.classes > len(found):
        raise SystemExit(
            f"{args.source}: has {len(found)} classes, --classes asks for {args.classes}"
        )
    else:
        wanted = (
            np.random.default_rng(args.seed)
            .choice(sorted(found), args.classes or len(found), replace=False)
            .tolist()
        )
    if len(wanted) < 2:
        raise SystemExit(
            f"{args.source}: {len(wanted)} class, and nothing to tell apart; 2 or more are needed"
        )
    return sorted(wanted)


def glyph_items(name, args):
    """(classes, items): what to draw. An item is (source, label, split, description)."""
    letters = {"letters": glyphs.LETTERS, "digits": glyphs.DIGITS}.get(name)
    if letters is None:
        raise SystemExit(f"glyphs:{name}: there are glyphs:letters and glyphs:digits")
    counts = [args.train_per_class or 100, args.val_per_class, args.test_per_class or 20]
    return letters, [
        (
            (letters, label, split, index, args.seed),
            label,
            split,
            f"{letters[label]}/{split}/{index}",
        )
        for split, count in enumerate(counts)
        for label in range(len(letters))
        for index in range(count)
    ]


def folder_items(root, args):
    """(classes, items) of a folder of images by class."""
    folders = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    train = [path for path in folders if path.name == "train" or path.name.startswith("train.X")]
    test = [p for p in folders if p.name == "test"] or [
        p for p in folders if p.name in ("val", "val.X")
    ]
    if not train or not test:
        raise SystemExit(
            f"{root}: needs train/CLASS/images and test/CLASS/images or val/CLASS/images (or ImageNet-100's train.X1/ … val.X/)"
        )
    listed = [_by_class(root, train), _by_class(root, test)]
    if not listed[0]:
        raise SystemExit(
            f"{train[0]}: has no folder in it; the names of its folders are the labels"
        )
    if alone := sorted(set(listed[1]) - set(listed[0])):
        print(
            f"{root}: left out: {len(alone)} classes that only {test[0].name}/ has (the first: {shown(alone[0])})",
            flush=True,
        )
    return _drawn(choose_classes(sorted(listed[0]), args), listed, args)


def _drawn(classes, listed, args):
    """(classes, items): val and train drawn by seed from listed[0], test from listed[1], each {class: [(what, name)]}."""
    items, need = [], (args.val_per_class + (args.train_per_class or 1), args.test_per_class or 1)
    for label, name in enumerate(classes):
        both, rng = (
            [part.get(name, []) for part in listed],
            np.random.default_rng([args.seed, label]),
        )
        if any(len(own) < least for own, least in zip(both, need)):
            raise SystemExit(
                f"{args.source}: class {shown(name)} has {len(both[0])} images to train on and {len(both[1])} to test; "
                f"{need[0]} and {need[1]} are needed"
            )
        train, test = (rng.permutation(len(own)) for own in both)
        val, rest = train[: args.val_per_class], train[args.val_per_class :]
        for split, places in enumerate(
            (rest[: args.train_per_class or None], val, test[: args.test_per_class or None])
        ):
            items += [
                (what, label, split, text)
                for what, text in (both[split == 2][i] for i in sorted(places))
            ]
    return classes, items


def _by_class(root, folders):
    """{class: [(path, name)]}, sorted, over one or more folders of classes."""
    found = {}
    for path in (path for folder in folders for path in sorted(folder.iterdir())):
        if path.is_symlink() and not path.exists():
            raise SystemExit(f"{shown(path)}: a link that leads nowhere; mend or remove it")
        if path.is_dir():
            found.setdefault(path.name, []).extend(
                image for image in path.iterdir() if image.suffix.lower() in SUFFIXES
            )
    return {
        name: [(str(path), shown(path.relative_to(root))) for path in sorted(paths)]
        for name, paths in found.items()
    }


def shown(name):
    """A file's name as text that can be printed and stored, whatever bytes it has."""
    return str(name).encode(errors="backslashreplace").decode()


def cifar10_items(root, args):
    """(classes, items) of CIFAR-10's binary version, straight from its archive, which is downloaded if it is missing. Its other version is a pickle."""
    url, md5 = CIFAR10
    archive = root / Path(url).name
    if not archive.exists():
        print(f"{archive}: downloading CIFAR-10, 170 MB", flush=True)
        try:
            with files.whole(archive) as part:
                urlretrieve(url, part)
        except OSError as error:
            raise SystemExit(
                f"{archive}: not there and cannot be downloaded ({error}); CIFAR=folder takes images by class"
            ) from None
    with open(archive, "rb") as file:
        if hashlib.file_digest(file, "md5").hexdigest() != md5:
            raise SystemExit(f"{archive}: wrong checksum; remove it, and it is downloaded again")
    with tarfile.open(archive) as tar:

        def part(name):
            return np.frombuffer(tar.extractfile(f"cifar-10-batches-bin/{name}").read(), np.uint8)

        classes = bytes(part("batches.meta.txt")).decode().split()
        both = [
            np.concatenate([part(f"{name}.bin") for name in names]).reshape(
                -1, 3073
            )  # a row an image: its label, then 32 x 32 red, green, blue
            for names in ([f"data_batch_{k}" for k in range(1, 6)], ["test_batch"])
        ]
    return _drawn(
        classes,
        [
            {
                name: [
                    (rows[i, 1:].reshape(3, 32, 32).transpose(1, 2, 0), f"{folder}/{i}")
                    for i in np.flatnonzero(rows[:, 0] == label)
                ]
                for label, name in enumerate(classes)
            }
            for folder, rows in zip(("train", "test"), both)
        ],
        args,
    )
