"""Compares every FILE (HDF5 of ours, minima) with the checksum that it carries.

A line for each that is damaged or foreign, and status 1 if there is one.
"""

from common import cli, files
from common.networks import models


def main():
    parser = cli.Parser(__doc__)
    parser.add_argument("files", nargs="*", metavar="FILE")
    names = parser.parse_args().files
    bad = 0
    for name in names:
        try:
            if name.endswith(".safetensors"):
                models.load(name)
            else:
                files.read(name).close()
        except SystemExit as error:
            bad += 1
            print(error, flush=True)
    print(f"{len(names)} files checked, {bad} damaged or foreign", flush=True)
    raise SystemExit(bool(bad))


if __name__ == "__main__":
    main()
