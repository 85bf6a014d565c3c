"""The passport: the HDF5 file that holds every measurement of one minimum, made group by group and continued where it stopped."""

import json
from pathlib import Path
from time import monotonic

import h5py

from common import cli, devices, files, provenance
from common.images import packs
from common.measuring import bench as measure
from common.measuring import summary
from common.networks import models
from common.training import processes

CODE = (
    "common/measuring/bench.py",
    "common/measuring/summary.py",
    "common/networks/weights.py",
    "common/networks/models.py",
)  # with a measurement's own file: what its numbers depend on
UNITS = {
    "loss": "nats per image",
    "accuracy": "fraction",
    "accuracy_relative": "fraction of clean",
    "loss_change": "nats per image",
    "loss_by_image": "nats, mean over repeats",
    "correct_by_image": "correct answers, sum over repeats",
}


def parser(doc, modules):
    """Flags of the battery: levels, repeats and options of each measurement under its own name."""
    parser = measure.flags(cli.Parser(doc))
    parser.add_argument(
        "--minimum", required=True, metavar="FOLDER", help="folder that holds weights.safetensors"
    )
    parser.add_argument("--out", required=True, metavar="FILE", help="the passport")
    parser.add_argument("names", nargs="*", metavar="NAME", help="measurements, for the battery")
    for module in modules:
        flag = "--" + measure.name_of(module).replace("_", "-")
        if hasattr(module, "LEVEL"):
            parser.add_argument(
                f"{flag}-levels",
                type=cli.levels(getattr(module, "LEVEL_TYPE", cli.amount)),
                default=module.LEVELS,
                metavar=f"{module.LEVEL.upper()},…",
                help=f"{module.TITLE}: {module.LEVEL}, {module.UNITS}",
            )
            if not isinstance(module.REPEATS, list):
                parser.add_argument(
                    f"{flag}-repeats",
                    type=cli.few,
                    default=module.REPEATS,
                    metavar="N",
                    help="random draws at each level",
                )
        for name, (kind, default, words) in getattr(module, "OPTIONS", {}).items():
            parser.add_argument(
                f"{flag}-{name}", type=kind, default=default, metavar="N", help=words
            )
    return parser


def main(doc, modules):
    """The battery: measures one minimum with `modules` and writes its passport; a group that is there already is taken over."""
    args = parser(doc, modules).parse_intermixed_args()
    device = devices.choose(args.device, args.deterministic)
    minimum, out = Path(args.minimum), Path(args.out)
    model, metadata = models.load(minimum / "weights.safetensors")
    pack = packs.load(args.data, device)
    if metadata["data"] != pack.fingerprint:
        raise SystemExit(
            f"{minimum}: trained on other data than {args.data}; measure it on the pack it was trained on"
        )
    bench = measure.Bench(model, pack, args)
    hardware = devices.describe(device, bench.dtype)
    root = {
        "kind": "passport",
        "minimum": minimum.name,
        "method": minimum.name.rpartition("-")[0],
    } | provenance.stamp(vars(args), metadata["seed"], metadata["sha256"], hardware)
    part = out.with_suffix(".part.h5")
    old, groups = _read(out, minimum.name) | _read(part, minimum.name), {}
    processes.wait()  # all have read what rank 0 will write over
    for module in modules:
        name = measure.name_of(module)
        levels = getattr(args, f"{name}_levels", getattr(module, "LEVELS", []))
        words = getattr(module, "REPEATS", 1)
        repeats = len(words) if isinstance(words, list) else getattr(args, f"{name}_repeats", words)
        options = {key: getattr(args, f"{name}_{key}") for key in getattr(module, "OPTIONS", {})}
        for group, (batchnorm, variant) in measure.groups(module, bench.model).items():
            settings = (
                {"levels": levels, "repeats": repeats, "batchnorm": batchnorm, "options": options}
                | {
                    key: getattr(args, key)
                    for key in ("images", "batchnorm_images", "batch_size", "seed")
                }
                | {"precision": str(bench.dtype)[6:]}
            )
            fingerprint = files.sha256(
                group,
                settings,
                metadata["sha256"],
                pack.fingerprint,
                provenance.source(module.__file__, *CODE),
            )
            if group in old and old[group][0].get("fingerprint") == fingerprint:
                groups[group] = old[group]
                continue
            began = monotonic()
            arrays = measure.group(bench, module, levels, repeats, batchnorm, variant, options)
            groups[group] = (
                provenance.stamp(settings, args.seed, fingerprint, hardware)
                | {
                    "measurement": name,
                    "title": module.TITLE,
                    "source": module.SOURCE,
                    "family": measure.family(module),
                    "level": getattr(module, "LEVEL", ""),
                    "level_units": getattr(module, "UNITS", ""),
                    "batchnorm": batchnorm,
                    "repeats": json.dumps(words if isinstance(words, list) else repeats),
                    "interval": summary.INTERVAL,
                    "variant": group.removeprefix(name).removesuffix(batchnorm).strip("_"),
                    "seconds": monotonic() - began,
                },
                arrays,
            )
            if processes.FIRST:
                _write(part, root, groups)
            print(f"{minimum.name} {group}: {monotonic() - began:.1f} s", flush=True)
    if processes.FIRST:
        _write(part, root, groups)
        files.replace(part, out)
    processes.end()


def _read(path, minimum):
    """{group: (attributes, {path: array})} of a passport, empty if there is none or it is damaged; SystemExit if it is something else."""
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
                f"{path}: is the {kind} of {owner}, not the passport of {minimum}; name another --out"
            )
        groups = {}
        for name, group in file.items():
            arrays = {}
            group.visititems(
                lambda at, item: (
                    arrays.update({at: item[()]}) if isinstance(item, h5py.Dataset) else None
                )
            )
            groups[name] = dict(group.attrs), arrays
        return groups


def _write(path, root, groups):
    with files.write(path) as file:
        file.attrs.update(root)
        for name, (attributes, arrays) in groups.items():
            group = file.create_group(name)
            group.attrs.update(attributes)
            axes = (
                [files.scale(group, "levels", arrays["levels"], attributes["level_units"])]
                if "levels" in arrays
                else []
            )
            for at, values in arrays.items():
                if at != "levels":
                    units = (
                        attributes["level_units"]
                        if at.endswith("_level")
                        else UNITS.get(at.split("/")[-1].removeprefix("mean_"), "1")
                    )
                    files.array(group, at, values, units, *axes if values.ndim > 1 else [])
                if at.startswith("summary/"):
                    group[at].attrs["columns"] = (
                        "value, low, high"
                        + "; inf: beyond the largest level" * at.endswith("_level")
                    )
