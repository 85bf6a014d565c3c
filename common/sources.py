"""Where images come from: each function lists (classes, items) of one kind of source, split into train, val and test.

An item is (what to decode or draw, label, split, name). Decoding, and the pack, are `common.prepare`'s.
"""
import hashlib
import tarfile
from pathlib import Path
from urllib.request import urlretrieve

import numpy as np

from common import files, glyphs

SUFFIXES = {".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".ppm", ".tif", ".tiff"}
CIFAR10 = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"  # and its MD5, from the same site


def choose_classes(found, args):
    """The class names to pack, sorted: listed in a file, drawn by seed, or all."""
    if args.class_list:
        lines = map(str.strip, Path(args.class_list).read_text("utf-8", "surrogateescape").splitlines())
        wanted = {line if line in found else line.split()[0] for line in lines if line}  # synset lists have a description after the name
        if missing := sorted(wanted - set(found)):
            raise SystemExit(f"{args.class_list}: {args.source} has no class {missing[0]} ({len(missing)} of {len(wanted)} missing)")
    elif args.classes > len(found):
        raise SystemExit(f"{args.source}: has {len(found)} classes, --classes asks for {args.classes}")
    else:
        wanted = np.random.default_rng(args.seed).choice(sorted(found), args.classes or len(found), replace=False).tolist()
    if len(wanted) < 2:
        raise SystemExit(f"{args.source}: {len(wanted)} class, and nothing to tell apart; 2 or more are needed")
    return sorted(wanted)


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
    if not listed[0]:
        raise SystemExit(f"{train[0]}: has no folder in it; the names of its folders are the labels")
    if alone := sorted(set(listed[1]) - set(listed[0])):
        print(f"{root}: left out: {len(alone)} classes that only {test[0].name}/ has (the first: {shown(alone[0])})", flush=True)
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
            items += [(str(path), label, split, shown(path.relative_to(root))) for path in sorted(paths)]
    return classes, items


def _by_class(folders):
    """{class: [image paths]} over one or more folders of classes."""
    found = {}
    for path in (path for folder in folders for path in sorted(folder.iterdir())):
        if path.is_symlink() and not path.exists():
            raise SystemExit(f"{shown(path)}: a link that leads nowhere; mend or remove it")
        if path.is_dir():
            found.setdefault(path.name, []).extend(image for image in path.iterdir() if image.suffix.lower() in SUFFIXES)
    return found


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
            raise SystemExit(f"{archive}: not there and cannot be downloaded ({error}); CIFAR=folder takes images by class") from None
    with open(archive, "rb") as file:
        if hashlib.file_digest(file, "md5").hexdigest() != md5:
            raise SystemExit(f"{archive}: wrong checksum; remove it, and it is downloaded again")
    with tarfile.open(archive) as tar:
        train, (test,) = ([np.frombuffer(tar.extractfile(f"cifar-10-batches-bin/{name}.bin").read(), np.uint8).reshape(-1, 3073) for name in names]
                          for names in ([f"data_batch_{k}" for k in range(1, 6)], ["test_batch"]))
        classes, items = tar.extractfile("cifar-10-batches-bin/batches.meta.txt").read().decode().split(), []
    both = np.concatenate(train), test  # a row an image: its label, then 32 x 32 red, green and blue
    for label in range(10):
        rng = np.random.default_rng([args.seed, label])
        at = [rng.permutation(np.flatnonzero(part[:, 0] == label)) for part in both]
        val, rest = at[0][:args.val_per_class], at[0][args.val_per_class:]
        for split, index in enumerate((rest[:args.train_per_class or None], val, at[1][:args.test_per_class or None])):
            items += [(both[split == 2][i, 1:].reshape(3, 32, 32).transpose(1, 2, 0), label, split, f"{'test' if split == 2 else 'train'}/{i}")
                      for i in sorted(index)]
    return classes, items
