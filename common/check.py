"""Compares every FILE (HDF5 of ours, minima), or all that lie in a FOLDER, with the checksum in it.

A line for each that is damaged or foreign, and status 1 if there is one, or none to check.
"""

from pathlib import Path

from common import cli, files
from common.networks import models


def main():
    parser = cli.Parser(__doc__)
    parser.add_argument("paths", nargs="+", metavar="FILE|FOLDER", type=Path)
    paths = []
    for path in parser.parse_args().paths:
        if not path.exists():
            raise SystemExit(f"{path}: no such file or folder")
        paths += found_in(path) if path.is_dir() else [path]
    bad = 0
    for path in paths:
        try:
            check(path)
        except SystemExit as error:
            bad += 1
            print(error, flush=True)
    print(f"{len(paths)} files checked, {bad} damaged or foreign", flush=True)
    raise SystemExit(bool(bad))


def found_in(folder: Path) -> list[Path]:
    """The files of a study that carry a checksum, but for what is half written."""
    paths = sorted([*folder.glob("**/[!.]*.h5"), *folder.glob("**/[!.]*.safetensors")])
    if not paths:
        raise SystemExit(f"{folder}: holds no file to check")
    return paths


def check(path: Path):
    """SystemExit with one line where a file is missing, damaged or foreign."""
    if path.suffix == ".safetensors":
        models.load(path)
    else:
        files.read(path).close()


if __name__ == "__main__":
    main()
