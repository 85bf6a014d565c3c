"""What a comparison is: something measured on two minima of the same task.

A comparison is a file `eval/NAME.py`. It gives

    TITLE, SOURCE        what it is called, and where it comes from
    UNITS                {name: units} of its datasets, by the last word of their paths, where
                         common.files does not know them
    compare(bench, a, b)
        {path: value}, the datasets of its file: a number, an array or a list; or {name: number},
        written as an array whose attribute `names` says which is which. `a` and `b` are the two
        networks on the bench's device, in eval mode, to be left as they are. `bench` is a third
        (common.measuring.bench.Bench), in which any weights may be put, and the images on which it
        is then evaluated.

It may give

    AXIS                 the last word of the paths that are an axis: the leading axis of all other
                         datasets in the same folder
    OPTIONS              {name: (type, default, help)}: flags of its own, given to `compare` as
                         keywords

and it ends in `comparison.main(__doc__, module)`, which does everything else.
"""

import copy
import json
import sys
from pathlib import Path
from time import monotonic
from types import ModuleType

import h5py
import numpy as np
from torch import nn

from common import cli, devices, files, provenance
from common.images import packs
from common.measuring.bench import Bench, add_flags
from common.measuring.measurement import source_digest
from common.networks import models

SAME_TASK = ("arch", "classes", "image_size", "data")  # metadata that must not differ
SHARED_SETTINGS = ("images", "batchnorm_images", "batch_size", "seed")


def main(doc: str, module: ModuleType):
    """Compares two minima and writes --out.

    SystemExit with one line where they are not of the same task, or --data is not what they were
    trained on.
    """
    name = Path(module.__file__).stem
    if missing := sorted({"TITLE", "SOURCE", "UNITS", "compare"} - set(vars(module))):
        raise SystemExit(f"{module.__file__}: lacks {', '.join(missing)}; a comparison gives it")
    option_flags = getattr(module, "OPTIONS", {})
    args = parse(doc, option_flags)
    device = devices.choose(args.device, args.deterministic)
    folders = [Path(folder) for folder in args.minima]
    (a, b), metadata = load_both(folders)
    pack = packs.load(args.data, device)
    if metadata[0]["data"] != pack.fingerprint:
        raise SystemExit(
            f"{folders[0]}: trained on other data than {args.data}; compare minima on the pack "
            "they were trained on, or move its weights away and run make again, which trains it on "
            "this one"
        )
    bench = Bench(copy.deepcopy(a), pack, args)
    options = {key: getattr(args, key) for key in option_flags}
    settings = options | {key: getattr(args, key) for key in SHARED_SETTINGS}
    settings["precision"] = str(bench.dtype).removeprefix("torch.")
    weights = [each["sha256"] for each in metadata]
    code = source_digest(module.__file__)
    fingerprint = files.sha256(name, settings, weights, pack.fingerprint, code)
    hardware = devices.describe(device, bench.dtype)
    attributes = provenance.stamp(settings, args.seed, fingerprint, hardware) | {
        "kind": "comparison",
        "comparison": name,
        "title": module.TITLE,
        "source": module.SOURCE,
        "weights": json.dumps(weights),
        "data": pack.fingerprint,
        "minima": json.dumps([each["minimum"] for each in metadata]),
        "methods": json.dumps([each["method"] for each in metadata]),
        "settings_of_minima": json.dumps([each["setting"] for each in metadata]),
        "seeds": json.dumps([each["seed"] for each in metadata]),
        "shared_start": metadata[0]["seed"] == metadata[1]["seed"],
        "classes": len(pack.classes),
    }
    began = monotonic()
    results = module.compare(bench, a.to(device), b.to(device), **options)
    with files.write(args.out) as file:
        file.attrs.update(attributes)
        write(file, results, module.UNITS, getattr(module, "AXIS", None))
    pair = "--".join(each["minimum"] for each in metadata)
    if undefined := without_numbers(results):
        print(
            f"{pair} {name}: caution: {', '.join(undefined)}: not a number; one of the networks "
            "overflows there, or has no such layers",
            file=sys.stderr,
        )
    print(f"{pair} {name}: {monotonic() - began:.1f} s", flush=True)


def without_numbers(results: dict) -> list[str]:
    """The paths of what `compare` gave that hold NaN."""
    values = {
        path: list(value.values()) if isinstance(value, dict) else value
        for path, value in results.items()
    }
    return [path for path, value in values.items() if np.isnan(np.asarray(value, float)).any()]


def load_both(folders: list[Path]) -> tuple[list[nn.Module], list[dict]]:
    """The networks of two minima and their metadata; SystemExit if their tasks differ."""
    loaded = [models.load(folder / "weights.safetensors") for folder in folders]
    networks, metadata = [model for model, _ in loaded], [each for _, each in loaded]
    for key in SAME_TASK:
        if metadata[0][key] != metadata[1][key]:
            raise SystemExit(
                f"{folders[0]} and {folders[1]}: their {key} differ; only minima of the same task "
                "can be compared"
            )
    return networks, metadata


def parse(doc: str, option_flags: dict[str, tuple]):
    """The command line of a comparison."""
    parser = add_flags(cli.Parser(doc))
    parser.add_argument(
        "--minima",
        required=True,
        nargs=2,
        metavar="FOLDER",
        help="two folders that hold weights.safetensors",
    )
    parser.add_argument("--out", required=True, metavar="FILE", help="HDF5 file of the results")
    for name, (kind, default, words) in option_flags.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=kind, default=default, metavar="N", help=words
        )
    return parser.parse_args()


def write(file: h5py.File, results: dict, units: dict[str, str], axis: str | None):
    """Writes what `compare` gave, datasets along the axis of their folder where there is one."""
    axes = {}  # {folder: its dimension scale}
    for path in sorted(results, key=lambda path: not is_axis(path, axis)):  # axes come first
        value = results[path]
        folder, _, word = path.rpartition("/")
        unit = units.get(word) or files.units(word)
        if is_axis(path, axis):
            group = file.require_group(folder)
            axes[folder] = files.scale(group, word, value, unit)
        elif isinstance(value, dict):
            dataset = files.array(file, path, list(value.values()), unit)
            dataset.attrs["names"] = json.dumps(list(value))
        else:
            leading = [scale for parent, scale in axes.items() if path.startswith(f"{parent}/")]
            files.array(file, path, value, unit, *leading)


def is_axis(path: str, axis: str | None) -> bool:
    """Whether `path` ends in the word `axis`."""
    return axis is not None and path.rpartition("/")[2] == axis
