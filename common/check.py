"""Every FILE (HDF5 of ours, minima) against the checksum that it carries: a line for each that is damaged or foreign, and status 1 if there is one."""

from common import cli, files
from common.networks import models


def main():
    parser = cli.Parser(__doc__, alone=True)
    parser.add_argument("files", nargs="*", metavar="FILE")
    names = parser.parse_args().files
    bad = []
    for name in names:
        try:
            models.load(name) if name.endswith(".safetensors") else files.read(name).close()
        except SystemExit as error:
            bad.append(error)
            print(error, flush=True)
    print(f"{len(names)} files checked, {len(bad)} damaged or foreign", flush=True)
    raise SystemExit(bool(bad))


if __name__ == "__main__":
    main()
