"""Two minima compared: their distance in weight space, and loss and accuracy along the straight line between them.

BatchNorm's statistics on the line are interpolated (as the report did) and, apart, recomputed at every point.
"""

import json
from pathlib import Path

import numpy as np

from common import cli, devices, files, provenance
from common.images import packs
from common.measuring import bench as measure
from common.networks import models, weights
from common.training import processes


def line(bench, a, b, points, recompute):
    """Curves {"train/loss": (T,), …} along (1−t)·a + t·b for T equidistant t; a and b are state dicts on the device."""
    curves = {f"{split}/{name}": [] for split in bench.splits for name in ("loss", "accuracy")}
    for t in np.linspace(0, 1, points):
        weights.interpolate(bench.model, a, b, float(t))
        bench.settle(recompute)
        for split in bench.splits:
            loss, correct = bench.sweep(split)
            curves[f"{split}/loss"].append(loss.double().mean().item())
            curves[f"{split}/accuracy"].append(correct.double().mean().item())
    return curves


def main():
    parser = measure.flags(cli.Parser(__doc__))
    parser.add_argument("--minima", required=True, nargs=2, metavar="FOLDER")
    parser.add_argument("--out", required=True, metavar="FILE")
    parser.add_argument(
        "--points",
        type=cli.points,
        default=51,
        help="equidistant points on the line, both ends included",
    )
    args = parser.parse_args()
    device = devices.choose(args.device, args.deterministic)
    minima = [Path(folder) for folder in args.minima]
    (model, metadata), (other, other_metadata) = (
        models.load(folder / "weights.safetensors") for folder in minima
    )
    for key in ("arch", "classes", "image_size", "data"):
        if metadata[key] != other_metadata[key]:
            raise SystemExit(
                f"{minima[0]} and {minima[1]}: their {key} differ; only minima of the same task can be compared"
            )
    pack = packs.load(args.data, device)
    if metadata["data"] != pack.fingerprint:
        raise SystemExit(
            f"{minima[0]}: trained on other data than {args.data}; compare minima on the pack they were trained on"
        )
    groups, other_groups = weights.groups(model), weights.groups(other)
    distances = {group: weights.distance(groups[group], other_groups[group]) for group in groups}
    layers = {
        name: weights.distance({name: value}, {name: other_groups["all"][name]})["raw"]
        for name, value in groups["all"].items()
    }
    bench = measure.Bench(model, pack, args)
    a, b = (
        {name: value.to(device, copy=True) for name, value in net.state_dict().items()}
        for net in (model, other)
    )
    settings = {
        key: getattr(args, key) for key in ("images", "batchnorm_images", "batch_size", "points")
    } | {"precision": str(bench.dtype)[6:]}
    fingerprint = files.sha256(
        settings, metadata["sha256"], other_metadata["sha256"], pack.fingerprint
    )
    paths = {
        "path": line(bench, a, b, args.points, recompute=False),
        "path_recomputed": line(bench, a, b, args.points, recompute=True),
    }
    if not processes.FIRST:
        return processes.end()
    with files.write(args.out) as file:
        file.attrs.update(
            provenance.stamp(
                settings, args.seed, fingerprint, devices.describe(device, bench.dtype)
            )
        )
        file.attrs.update(
            kind="pair",
            minima=json.dumps([folder.name for folder in minima]),
            shared_start=metadata["seed"] == other_metadata["seed"],
            classes=len(pack.classes),
        )
        for group, values in distances.items():
            for name, value in values.items():
                file[f"distance/{group}/{name}"] = value
        file["distance/layers"] = list(layers.values())
        file["distance/layers"].attrs["names"] = json.dumps(list(layers))
        for name, curves in paths.items():
            group = file.create_group(name)
            t = files.scale(
                group,
                "t",
                np.linspace(0, 1, args.points),
                "position on the line: 0 the first minimum, 1 the second",
            )
            for at, values in curves.items():
                files.array(
                    group, at, values, "nats per image" if at.endswith("loss") else "fraction", t
                )
    highest = {name: max(curves["train/loss"]) for name, curves in paths.items()}
    print(
        f"{minima[0].name}--{minima[1].name}: distance {distances['all']['raw']:.1f}, highest train loss on the line "
        f"{highest['path']:.2f} (BatchNorm interpolated), {highest['path_recomputed']:.2f} (recomputed)",
        flush=True,
    )
    processes.end()


if __name__ == "__main__":
    main()
