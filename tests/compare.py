"""Two folders of results compared by value: the rule for a refactoring is that nothing differs.

    python -m tests.compare artifacts-before/smoke artifacts/smoke

Every tensor of every weights.safetensors and every dataset of every .h5 file must be equal, to the
last bit; datasets called `seconds`, attributes and the report are left out. A file that only one
folder has is a difference, unless --renamed says what became of it.
"""

import argparse
from pathlib import Path

import h5py
import numpy as np
from safetensors.numpy import load_file


def values(path: Path) -> dict[str, np.ndarray]:
    """{name: array} of a file of weights or of an HDF5 file."""
    if path.suffix == ".safetensors":
        return load_file(path)
    found = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: (
                found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
            )
        )
    return {name: array for name, array in found.items() if name.split("/")[-1] != "seconds"}


def results(folder: Path) -> dict[str, Path]:
    """{relative path: path} of the results of a study."""
    return {
        str(path.relative_to(folder)): path
        for pattern in ("*.h5", "*.safetensors")
        for path in sorted(folder.rglob(pattern))
        if not path.name.startswith(".")
    }


def differences(before: Path, after: Path, renamed: dict[str, list[str]]):
    """Yields a line for everything that is not the same."""
    old, new = results(before), results(after)
    expected = set()
    for name, path in old.items():
        names = [str(Path(name).with_name(other)) for other in renamed.get(path.name, [path.name])]
        expected.update(names)
        if missing := [other for other in names if other not in new]:
            yield f"{name}: no {', '.join(missing)}"
            continue
        mine = values(path)
        theirs = {key: array for other in names for key, array in values(new[other]).items()}
        for key in sorted(mine.keys() | theirs.keys()):
            if key not in mine or key not in theirs:
                yield f"{name}: {key} only {'before' if key in mine else 'after'}"
            elif not same(mine[key], theirs[key]):
                yield f"{name}: {key} differs"
    yield from (f"{name}: only after" for name in new if name not in expected)


def same(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays are the same bits."""
    a, b = np.asarray(a), np.asarray(b)
    if a.dtype.hasobject or b.dtype.hasobject:
        return a.tolist() == b.tolist()
    return (a.shape, a.dtype, a.tobytes()) == (b.shape, b.dtype, b.tobytes())


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument(
        "--renamed",
        action="append",
        default=[],
        metavar="OLD=NEW,NEW",
        help="files of this name became these",
    )
    args = parser.parse_args()
    renamed = {
        old: new.split(",") for old, _, new in (words.partition("=") for words in args.renamed)
    }
    found = list(differences(args.before, args.after, renamed))
    for line in found:
        print(line)
    print(f"{len(results(args.before))} files before, {len(found)} differences")
    raise SystemExit(bool(found))


if __name__ == "__main__":
    main()
