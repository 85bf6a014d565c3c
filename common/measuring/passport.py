"""The passport: the HDF5 file that holds every measurement of one minimum.

It is made group by group, and continued where it stopped: a group that an earlier passport holds is
taken over if nothing changed that its numbers depend on.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import monotonic
from types import ModuleType

import h5py
import numpy as np

from common import cli, devices, files, provenance
from common.images import packs
from common.measuring import summary, sweep
from common.measuring.bench import Bench, add_flags
from common.measuring.measurement import (
    SPLITS,
    TREATMENTS,
    Group,
    Measurement,
    groups,
    resolve,
    source_digest,
)
from common.networks import models

Groups = dict[str, tuple[dict, dict[str, np.ndarray]]]  # {name: (attributes, {path: array})}


def parse(doc: str, battery: Sequence[Measurement]):
    """The command line: levels, repeats and options of each measurement under its own name."""
    parser = add_flags(cli.Parser(doc))
    add = parser.add_argument
    add("--minimum", required=True, metavar="FOLDER", help="folder that holds weights.safetensors")
    add("--out", required=True, metavar="FILE", help="the passport")
    add("names", nargs="*", metavar="NAME", help="measurements, for the battery")
    add(
        "--batchnorm",
        default="own",
        choices=["own", *TREATMENTS],
        help="statistics of BatchNorm under which what is perturbed is measured; own: as the file "
        "of each measurement says",
    )
    for measurement in battery:
        flag = "--" + measurement.name.replace("_", "-")
        if measurement.level:
            add(
                f"{flag}-levels",
                type=cli.levels(measurement.level_type),
                default=measurement.levels,
                metavar=f"{measurement.level.upper()},…",
                help=f"{measurement.title}: {measurement.level}, {measurement.units}",
            )
        if measurement.level and not measurement.repeat_words:
            add(
                f"{flag}-repeats",
                type=cli.integer(1, 255),
                default=measurement.repeats,
                metavar="N",
                help="random draws at each level",
            )
        if measurement.level:
            add(
                f"{flag}-split",
                choices=["own", *SPLITS],
                default="own",
                help="the split on which it runs; own: as its file says, on both mostly",
            )
        for name, (kind, default, words) in measurement.option_flags.items():
            add(f"{flag}-{name}", type=kind, default=default, metavar="N", help=words)
    return parser.parse_intermixed_args()


def main(doc: str, modules: Sequence[ModuleType]):
    """The battery: measures one minimum with `modules`, files of eval/, and writes its passport.

    SystemExit with one line where the minimum was trained on other data, or --out is not its
    passport.
    """
    battery = [resolve(module) for module in modules]
    args = parse(doc, battery)
    device = devices.choose(args.device, args.deterministic)
    folder, out = Path(args.minimum), Path(args.out)
    model, metadata = models.load(folder / "weights.safetensors")
    pack = packs.load(args.data, device)
    if metadata["data"] != pack.fingerprint:
        raise SystemExit(
            f"{folder}: trained on other data than {args.data}; measure it on the pack it was "
            "trained on, or move its weights away and run make again, which trains it on this one"
        )
    bench = Bench(model, pack, args)
    hardware = devices.describe(device, bench.dtype)
    root = provenance.stamp(vars(args), metadata["seed"], metadata["sha256"], hardware) | {
        "kind": "passport",
        "weights": metadata["sha256"],
        "data": pack.fingerprint,
        **{name: metadata[name] for name in ("minimum", "method", "setting", "start")},
    }
    minimum, unfinished = metadata["minimum"], out.with_suffix(".part.h5")
    old = read(out, minimum) | read(unfinished, minimum)
    done = {}
    for measurement in battery:
        measurement = measurement.as_asked(args)
        for group in groups(measurement, bench.model):
            settings = settings_of(measurement, group, args, bench)
            fingerprint = files.sha256(
                group.name,
                settings,
                metadata["sha256"],
                pack.fingerprint,
                source_digest(measurement.file),
            )
            if group.name in old and old[group.name][0].get("fingerprint") == fingerprint:
                done[group.name] = old[group.name]
                continue
            began = monotonic()
            arrays = sweep.measure_group(bench, measurement, group)
            seconds = monotonic() - began
            stamp = provenance.stamp(settings, args.seed, fingerprint, hardware)
            attributes = stamp | describe(measurement, group) | {"seconds": seconds}
            done[group.name] = attributes, arrays
            write(unfinished, root, done)
            print(f"{minimum} {group.name}: {seconds:.1f} s", flush=True)
            for caution in cautions(arrays):
                print(f"{minimum} {group.name}: caution: {caution}", file=sys.stderr)
    write(unfinished, root, done)
    files.replace(unfinished, out)


def cautions(arrays: dict[str, np.ndarray]) -> Iterator[str]:
    """Yields a line for each thing that the numbers of a group cannot say."""
    for path, values in arrays.items():
        if path.endswith("/without_gradient") and values[0] > summary.SMALL_SHARE:
            split = path.partition("/")[0]
            yield (
                f"at {values[0]:.0%} of the {split} images the gradient is exactly 0 in float32, "
                "or not a number; the attack leaves them as they are, and its accuracy says "
                "nothing about them"
            )
    if undefined := summary.undefined(arrays):
        yield (
            f"{', '.join(undefined)} came to no finite number: the network, its gradient or its "
            "second derivative overflows there, or has no value; the report leaves a dash"
        )


def settings_of(measurement: Measurement, group: Group, args, bench: Bench) -> dict:
    """What the numbers of a group depend on, beside weights, data and code."""
    shared = ("images", "batchnorm_images", "batch_size", "seed")
    return {
        "levels": measurement.levels,
        "splits": measurement.splits,
        "repeats": measurement.repeats,
        "batchnorm": group.batchnorm,
        "options": measurement.options,
        "precision": str(bench.dtype).removeprefix("torch."),
    } | {name: getattr(args, name) for name in shared}


def describe(measurement: Measurement, group: Group) -> dict:
    """The attributes of a group that say what it holds."""
    return {
        "measurement": measurement.name,
        "title": measurement.title,
        "source": measurement.source,
        "family": measurement.family,
        "level": measurement.level,
        "level_units": measurement.units,
        "batchnorm": group.batchnorm,
        "repeats": json.dumps(measurement.repeat_words or measurement.repeats),
        "interval": summary.INTERVAL,
        "variant": group.suffix,
    }


def read(path: Path, minimum: str) -> Groups:
    """The groups of the passport of `minimum`; none if there is no file, or it is damaged.

    SystemExit where it is something else, which is then not ours to write over.
    """
    if not path.exists():
        return {}
    try:
        file = files.read(path)
    except SystemExit as error:
        if "damaged" not in str(error):
            raise
        print(f"{error}: measuring again", flush=True)
        return {}
    with file:
        kind, owner = file.attrs.get("kind"), file.attrs.get("minimum")
        if (kind, owner) != ("passport", minimum):
            raise SystemExit(
                f"{path}: is the {kind} of {owner}, not the passport of {minimum}; name another "
                "--out"
            )
        return {name: (dict(group.attrs), _datasets(group)) for name, group in file.items()}


def _datasets(group: h5py.Group) -> dict[str, np.ndarray]:
    """{path in the group: array} of everything in it."""
    arrays = {}

    def add(path, item):
        if isinstance(item, h5py.Dataset):
            arrays[path] = item[()]

    group.visititems(add)
    return arrays


def write(path: Path, root: dict, results: Groups):
    """Writes the passport: `root`, its own attributes, and the groups."""
    with files.write(path) as file:
        file.attrs.update(root)
        for name, (attributes, arrays) in results.items():
            group = file.create_group(name)
            group.attrs.update(attributes)
            _write_arrays(group, arrays, attributes["level_units"])


def _write_arrays(group: h5py.Group, arrays: dict[str, np.ndarray], level_units: str):
    """Writes the datasets of one group, along its levels where it has them."""
    axes = []
    if "levels" in arrays:
        axes = [files.scale(group, "levels", arrays["levels"], level_units)]
    for path, values in arrays.items():
        if path == "levels":
            continue
        is_level = path.endswith("_level")
        units = level_units if is_level else files.units(_quantity(path))
        dataset = files.array(group, path, values, units, *axes if values.ndim > 1 else [])
        if path.startswith("summary/"):
            dataset.attrs["columns"] = "value, low, high" + (
                "; inf: beyond the largest level" if is_level else ""
            )


def _quantity(path: str) -> str:
    """What a dataset holds: summary/test/mean_loss is a loss."""
    return path.split("/")[-1].removeprefix("mean_")
