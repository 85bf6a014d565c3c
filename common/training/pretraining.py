"""Pretraining: its flags, the Run that starts from a seed, and the minimum that it leaves in its folder.

A method reads: `setup`, an optimizer, `step(images, labels) -> loss, logits`, `for position in loop.fit(…)`, `finish`.
"""

from pathlib import Path

import numpy as np
import torch

from common import cli, devices, files, provenance, seeds
from common.images import packs
from common.networks import models
from common.training import loop, processes


def parser(doc):
    """The flags of every pretraining method. A method adds its own, three at most."""
    parser = loop.flags(cli.Parser(doc), epochs=40, lr=1e-3, weight_decay=1e-4)
    parser.add_argument("--out", required=True, metavar="FOLDER", help="folder of the minimum")
    parser.add_argument(
        "--seed",
        type=cli.whole,
        default=0,
        help="fixes initial weights and image order for every method alike",
    )
    parser.add_argument(
        "--arch", default="resnet18", help="resnet18, or another network of torchvision.models"
    )
    parser.add_argument(
        "--train-on",
        default="train",
        choices=["train", "train+val"],
        help="train+val: the report's exact count",
    )
    parser.add_argument(
        "--target",
        type=cli.fraction,
        default=0.95,
        help="running train accuracy that training should reach",
    )
    return parser


def setup(args):
    """The Run of a pretraining method from its flags: data, a network with the seed's initial weights, a checkpoint in --out."""
    device = devices.choose(args.device, args.deterministic)
    processes.start(device.type)
    pack = packs.load(args.data, device)
    train = (
        pack.indices("train")
        if args.train_on == "train"
        else torch.cat([pack.indices("train"), pack.indices("val")])
    )
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    settings = {
        name: value for name, value in vars(args).items() if name not in ("data", "out", "device")
    } | {"data": pack.fingerprint}
    return loop.start(
        args,
        settings,
        ["train", args.seed],
        pack,
        models.build(args.arch, len(pack.classes), seeds.derive("init", args.seed)),
        train,
        {"train": pack.subset("train", args.train_images), "val": pack.indices("val")},
        out / "resume.h5",
        out.name,
    )


def save(run, path):
    """Writes the run's network as it is now to `path` (safetensors)."""
    if not processes.FIRST:
        return
    models.save(
        path,
        run.model.state_dict(),
        arch=run.args.arch,
        classes=run.pack.classes,
        image_size=run.pack.image_size,
        seed=run.args.seed,
        data=run.pack.fingerprint,
        code=provenance.code(),
        commit=provenance.commit(),
        command=provenance.command(),
    )


def finish(run):
    """Writes the minimum: training.h5 with the curves and the final loss and accuracy, then weights.safetensors, last."""
    args, curves = run.args, run.curves
    reached = [
        epoch
        for epoch, value in zip(curves["epoch"], curves["running/accuracy"])
        if value >= args.target
    ]
    if curves["running/accuracy"][-1] < args.target:
        print(
            f"{run.name}: running train accuracy ended at {curves['running/accuracy'][-1]:.3f}, below the target of {args.target}",
            flush=True,
        )
    out = Path(args.out)
    final = {
        split: loop.evaluate(run.model, run.pack, index) for split, index in run.measured.items()
    }
    if not processes.FIRST:
        return processes.end()
    with files.write(out / "training.h5") as file:
        file.attrs.update(
            provenance.stamp(
                run.settings,
                args.seed,
                files.sha256(run.settings),
                devices.describe(run.device, run.dtype),
            )
        )
        file.attrs.update(
            kind="training",
            minimum=out.name,
            method=out.name.split("-")[0],
            target=args.target,
            epoch_target_reached=reached[0] if reached else np.nan,
        )
        loop.write_curves(file, dict(curves))
        for split, values in final.items():
            for name, value in zip(("loss", "accuracy"), values):
                file[f"final/{split}_{name}"] = value
    save(run, out / "weights.safetensors")
    run.checkpoint.unlink(missing_ok=True)
    processes.end()
