"""Finetuning a minimum several times: new head, own image order, distance travelled, and the file that holds all runs of one mode.

A mode reads: flags, then `for run in runs(args)`: an optimizer, a step, and `record(run, loop.fit(…))`.
"""

from pathlib import Path

import numpy as np
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from common import cli, devices, files, provenance, seeds
from common.images import packs
from common.networks import models, weights
from common.training import loop, processes

CODE = (
    "common/training/loop.py",
    "common/training/finetuning.py",
    "common/networks/weights.py",
    "common/networks/models.py",
)
TARGET = 0.95
CURVES = "loss", "accuracy"


def parser(doc):
    """The flags of every finetuning mode. A mode adds its own, three at most."""
    parser = loop.flags(cli.Parser(doc), epochs=15, lr=1e-4, weight_decay=0.0)
    parser.add_argument(
        "--minimum", required=True, metavar="FOLDER", help="folder that holds weights.safetensors"
    )
    parser.add_argument(
        "--out",
        required=True,
        metavar="FILE",
        help="HDF5 file of all runs; runs that it holds already are kept",
    )
    parser.add_argument(
        "--runs",
        type=cli.count,
        default=5,
        metavar="N",
        help="repetitions, each with its own head and image order",
    )
    parser.add_argument(
        "--measure-on",
        default="test",
        choices=["test", "val"],
        help="val: for tuning, which never sees the test images",
    )
    return parser


def runs(args, mode_file):
    """Yields a Run for each repetition that --out does not hold yet; writes --out when all are recorded."""
    device = devices.choose(args.device, args.deterministic)
    minimum, out = Path(args.minimum), Path(args.out)
    pack = packs.load(args.data, device)
    metadata = models.load(minimum / "weights.safetensors")[1]
    if metadata["image_size"] != pack.image_size:
        raise SystemExit(
            f"{args.data}: {pack.image_size} px images, but {minimum} was trained at {metadata['image_size']} px"
        )
    settings = {
        name: value
        for name, value in vars(args).items()
        if name not in ("data", "minimum", "out", "runs", "device")
    }
    settings |= {"data": pack.fingerprint, "minimum": metadata["sha256"]}
    fingerprint = files.sha256(settings, provenance.source(mode_file, *CODE))
    part, checkpoint = out.with_suffix(".part.h5"), out.with_suffix(".resume.h5")
    hardware = devices.describe(device, devices.training_dtype(device, args.precision))
    done = _read(out, fingerprint)[: args.runs] or []
    done = max(done, _read(part, fingerprint)[: args.runs], key=len)
    processes.wait()  # all have read what rank 0 will write over
    for number in range(len(done), args.runs):
        model, _ = models.load(minimum / "weights.safetensors")
        # Run k has the same head and the same image order for every minimum: minima are compared in pairs.
        models.replace_head(model, len(pack.classes), seeds.derive("head", number))
        measured = {
            "train": pack.subset("train", args.train_images),
            args.measure_on: pack.indices(args.measure_on),
        }
        run = loop.start(
            args,
            settings | {"run": number},
            ["finetune", number],
            pack,
            model,
            pack.indices("train"),
            measured,
            checkpoint,
            f"{minimum.name} {out.stem} run {number + 1}/{args.runs}",
        )
        run.origin = {name: value.detach().clone() for name, value in run.model.named_parameters()}
        yield run
        done.append(
            {
                name: np.array(values)
                for name, values in run.curves.items()
                if name != "lr" and "running" not in name
            }
        )
        if processes.FIRST:
            _write(part, done, args, metadata, settings, fingerprint, hardware)
            checkpoint.unlink(missing_ok=True)
    if not processes.FIRST:
        return processes.end()
    _write(
        part, done, args, metadata, settings, fingerprint, hardware
    )  # one that lies there may be of other settings, or hold more runs
    checkpoint.unlink(
        missing_ok=True
    )  # a kill may have come between a run's end and its checkpoint's
    files.replace(part, out)
    processes.end()


def record(run, positions):
    """Runs a fit to its end; after every epoch records how far each group of parameters has moved from the minimum.

    distance: the straight line from the start; distance_relative: that, divided by the group's norm at the start; path: the sum of the lengths
    of all steps. Groups: weights.groups and every top-level module, each without the head; the head; with_head, which is everything.
    """
    parameters, head = dict(run.model.named_parameters()), models.head(run.model)[0]
    heads = {name for name in parameters if name.startswith(f"{head}.")}
    groups = weights.groups(run.model, without=heads) | {"head": heads, "with_head": parameters}
    for child, _ in run.model.named_children():
        groups[child] = {name for name in parameters if name.startswith(f"{child}.")} - heads
    groups = {name: members for name, members in groups.items() if members}
    member = torch.tensor(
        [[name in members for members in groups.values()] for name in parameters],
        dtype=torch.float64,
        device=run.device,
    )
    parameters, origin = list(parameters.values()), list(run.origin.values())
    before, path = [], torch.zeros(len(groups), dtype=torch.float64, device=run.device)

    def lengths(tensors, dtype=torch.float64):
        return (
            torch.stack(torch._foreach_norm(tensors, dtype=dtype)).double().square() @ member
        ).sqrt()

    @torch.no_grad()
    def advance(*_):
        if not before:  # the first step: a resumed run has its weights by now
            return before.extend(value.clone() for value in parameters)
        torch._foreach_sub_(before, parameters)
        path.add_(
            lengths(before, torch.float32)
        )  # at every step: 1e-5 of it, for a tenth of the time
        torch._foreach_copy_(before, parameters)

    hook = register_optimizer_step_pre_hook(advance)
    try:
        norms = lengths(origin)
        for position in positions:
            if position.last:
                advance()
                with torch.no_grad():
                    moved = lengths(torch._foreach_sub(parameters, origin))
                for kind, values in (
                    ("distance", moved),
                    ("distance_relative", moved / norms),
                    ("path", path),
                ):
                    for group, value in zip(groups, values.tolist()):
                        curve = run.curves[f"{kind}/{group}"]
                        curve.append(value + (curve[-1] if kind == "path" and curve else 0))
                path.zero_()
    finally:
        hook.remove()


def epochs_to(target, accuracy):
    """The first crossing of `target` on a curve (E+1,) by epoch, linear between epochs; NaN if it never reaches it."""
    above = np.flatnonzero(accuracy >= target)
    if not len(above):
        return np.nan
    last = int(above[0])
    return float(
        last and last - 1 + (target - accuracy[last - 1]) / (accuracy[last] - accuracy[last - 1])
    )


def _read(path, fingerprint):
    """The runs [{curve: (E+1,)}] that a file holds, none if it is missing, damaged or of other settings."""
    try:
        with files.read(path) as file:
            if file.attrs.get("kind") != "finetune" or file.attrs["fingerprint"] != fingerprint:
                return []
            found = {
                f"{group}/{name}": data[()]
                for group in file
                if hasattr(file[group], "keys")
                for name, data in file[group].items()
            }
            epoch, seconds = file["epoch"][()], file["seconds"][()]
            return [
                {"epoch": epoch, "seconds": seconds[k]}
                | {name: values[k] for name, values in found.items()}
                for k in range(len(seconds))
            ]
    except SystemExit as error:
        if path.exists():
            print(f"{error}: finetuning again", flush=True)
    return []


def _write(path, done, args, metadata, settings, fingerprint, hardware):
    with files.write(path) as file:
        minimum = Path(args.minimum).name
        file.attrs.update(provenance.stamp(settings, metadata["seed"], fingerprint, hardware))
        file.attrs.update(
            kind="finetune",
            mode=Path(args.out).stem.removeprefix("finetune-").split("--")[0],
            minimum=minimum,
            method=minimum.rpartition("-")[0],
            target=TARGET,
        )
        loop.write_curves(
            file,
            {"epoch": done[0]["epoch"]}
            | {name: [run[name] for run in done] for name in done[0] if name != "epoch"},
        )
        file["epochs_to_target"] = [epochs_to(TARGET, run["train/accuracy"]) for run in done]
