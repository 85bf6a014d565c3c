"""Compares every FILE (HDF5 of ours, minima), or all that lie in a FOLDER, with the checksum in it,
and what it was made from with the weights and the packs that lie there.

A line for each that is damaged, foreign, or made from others; then status 1, as where there is
none to check.
"""

from collections.abc import Iterator
from pathlib import Path

from common import cli, files, origins, parts
from common.networks import models

KINDS = "weights", "training", "passport", "comparison", "finetune"
Said = dict[Path, dict]  # {file: what it says of itself}, of those that are whole


def main():
    parser = cli.Parser(__doc__)
    parser.add_argument("paths", nargs="+", metavar="FILE|FOLDER", type=Path)
    paths = []
    for path in parser.parse_args().paths:
        if not path.exists():
            raise SystemExit(f"{path}: no such file or folder")
        paths += found_in(path) if path.is_dir() else [path]
    said, bad, unlike = {}, 0, 0
    for path in paths:
        try:
            said[path] = check(path)
        except SystemExit as error:
            bad += 1
            print(error, flush=True)
    for line in made_from_others(said):
        unlike += 1
        print(line, flush=True)
    print(
        f"{len(said)} of {len(paths)} files are whole, {bad} damaged or foreign; "
        f"{unlike} made from other weights or images than lie there",
        flush=True,
    )
    raise SystemExit(bool(bad or unlike))


def found_in(folder: Path) -> list[Path]:
    """The files that carry a checksum, but for what is half written; links are followed."""
    paths = [
        path
        for path in parts.files_in(folder)
        if path.suffix in (".h5", ".safetensors") and not path.name.startswith(".")
    ]
    if not paths:
        raise SystemExit(f"{folder}: holds no file to check")
    return paths


def check(path: Path) -> dict:
    """What a file says of itself. SystemExit with one line where it is damaged or foreign."""
    if path.suffix == ".safetensors":
        return models.load(path)[1] | {"kind": "weights"}
    with files.read(path) as file:
        return dict(file.attrs)


def made_from_others(said: Said) -> Iterator[str]:
    """Yields a line for each file that was made from others than lie there."""
    packs = {path: attrs for path, attrs in said.items() if attrs.get("kind") == "pack"}
    for path, attrs in said.items():
        near = {
            pack.stem: packs[pack]["fingerprint"]
            for pack in packs
            if pack.parent.parent in path.parents
        }
        if attrs.get("kind") in KINDS:
            yield from origins.unlike(path, attrs, near)
        if attrs.get("kind") == "weights" and near:  # in a study, a minimum has its own folder
            yield from misplaced(path, attrs["minimum"])


def misplaced(path: Path, minimum: str) -> Iterator[str]:
    """Yields a line where weights lie in the folder of another minimum."""
    own = Path(minimum).parts
    if path.absolute().parent.parts[-len(own) :] != own:
        yield f"{path}: says that it is the weights of {minimum}; put it into its own folder again"


if __name__ == "__main__":
    main()
