"""Pretraining: its flags, the run that starts from a seed, and the minimum that it leaves.

A method reads: `run = start(args, __file__)`, an optimizer, `step(images, labels) -> loss, logits`,
`loop.fit(run, step, optimizer)`, `finish(run)`.
"""

from pathlib import Path

import numpy as np
import torch

from common import cli, devices, files, provenance, seeds
from common.images import packs
from common.networks import models
from common.training import curves, loop, processes
from common.training.run import Run, add_flags


def parser(doc: str) -> cli.Parser:
    """The flags of every pretraining method. A method adds its own, three at most."""
    parser = add_flags(cli.Parser(doc, every_rank=True), epochs=40, lr=1e-3, weight_decay=1e-4)
    add = parser.add_argument
    add("--out", required=True, metavar="FOLDER", help="folder of the minimum")
    add(
        "--seed",
        type=cli.natural,
        default=0,
        help="fixes initial weights and image order for every method alike",
    )
    add("--arch", default="resnet18", help="resnet18, or another network of torchvision.models")
    add(
        "--train-on",
        default="train",
        choices=["train", "train+val"],
        help="train+val: the report's exact count",
    )
    add(
        "--target",
        type=cli.fraction,
        default=0.95,
        help="running train accuracy that training should reach",
    )
    add(
        "--sync-batchnorm",
        action="store_true",
        help="under torchrun, BatchNorm over the whole batch, not each process's part of it",
    )
    return parser


def start(args, method_file: str) -> Run:
    """The Run of a pretraining method: the pack, a network with the seed's initial weights.

    `method_file` is the method's `__file__`: its name is the method's. SystemExit with one line
    where the flags ask for what the pack, the network or the machine does not have.
    """
    device = devices.choose(args.device, args.deterministic)
    processes.start(device.type)
    pack = packs.load(args.data, device)
    train = pack.indices("train")
    if args.train_on == "train+val":
        train = torch.cat([train, pack.indices("val")])
    model = models.build(args.arch, len(pack.classes), seeds.derive("init", args.seed))
    if args.sync_batchnorm:
        model = processes.synchronise_batchnorm(model, device.type)
    places = "data", "out", "device"  # where, not what: no part of the result
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    return Run(
        args=args,
        settings={name: value for name, value in vars(args).items() if name not in places}
        | {"data": pack.fingerprint},
        seed=["train", args.seed],
        pack=pack,
        model=model,
        train=train,
        measured={
            "train": pack.subset("train", args.train_images),
            "val": pack.indices("val"),
        },
        checkpoint=out / "resume.h5",
        method=Path(method_file).stem,
        name=out.name,
    )


def save(run: Run, path: Path, method: str | None = None):
    """Writes the run's network as it is now to `path` (safetensors).

    `method` names what made it, where that is not the run's method itself.
    """
    if not processes.first():
        return
    method = method or run.method
    models.save(
        path,
        run.model.state_dict(),
        arch=run.args.arch,
        classes=run.pack.classes,
        image_size=run.pack.image_size,
        method=method,
        setting=method,
        seed=run.args.seed,
        data=run.pack.fingerprint,
        code=provenance.code(),
        commit=provenance.commit(),
        command=provenance.command(),
    )


def finish(run: Run):
    """Writes the minimum: training.h5 with curves and final values, then the weights, last."""
    args = run.args
    accuracy = run.curves["running/accuracy"]
    if accuracy[-1] < args.target:
        print(
            f"{run.name}: running train accuracy ended at {accuracy[-1]:.3f}, below the target "
            f"of {args.target}",
            flush=True,
        )
    final = {
        split: loop.evaluate(run.model, run.pack, index) for split, index in run.measured.items()
    }
    if processes.first():
        out = Path(args.out)
        write_training(run, out / "training.h5", final)
        save(run, out / "weights.safetensors")
        run.checkpoint.unlink(missing_ok=True)
    processes.end()


def write_training(run: Run, path: Path, final: dict[str, list[float]]):
    """Writes training.h5: curves by epoch, and `final` {split: [loss, accuracy]} as saved."""
    args = run.args
    hardware = devices.describe(run.device, run.dtype)
    if processes.WORLD > 1:
        hardware += f", {processes.WORLD} processes"
    reached = [
        epoch
        for epoch, accuracy in zip(run.curves["epoch"], run.curves["running/accuracy"])
        if accuracy >= args.target
    ]
    with files.write(path) as file:
        file.attrs.update(
            provenance.stamp(run.settings, args.seed, files.sha256(run.settings), hardware)
        )
        file.attrs.update(
            kind="training",
            minimum=path.parent.name,
            method=run.method,
            setting=run.method,
            target=args.target,
            epoch_target_reached=reached[0] if reached else np.nan,
        )
        curves.write(file, run.curves)
        for split, (loss, accuracy) in final.items():
            file[f"final/{split}_loss"] = loss
            file[f"final/{split}_accuracy"] = accuracy
