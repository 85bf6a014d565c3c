"""Pretraining: its flags, the run that starts from a seed, and the minimum that it leaves.

A method reads: `run = start(args, __file__)`, an optimizer, `step(images, labels) -> loss, logits`,
`loop.fit(run, step, optimizer)`, `finish(run)`. Where it leaves further minima beside its own, it
calls `save(run, beside="last")` before.
"""

import atexit
import os
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

from common import cli, devices, files, provenance, seeds
from common.images import packs
from common.networks import models
from common.training import curves, loop, processes
from common.training.run import Run, add_flags, setting_of


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
    where the flags ask for what the pack, the network or the machine does not have, or --setting
    names another method.
    """
    setting = setting_of(args, method_file)
    device = devices.choose(args.device, args.deterministic)
    processes.start(device.type)
    pack = packs.load(args.data, device)
    train = pack.indices("train")
    if args.train_on == "train+val":
        train = torch.cat([train, pack.indices("val")])
    classes, side = len(pack.classes), pack.image_size
    model = models.build(args.arch, classes, seeds.derive("init", args.seed), side)
    if why := models.why_not(model, 2, side, classes):
        raise SystemExit(
            f"--arch {args.arch}: does not take images of {side} px ({why}); give another network, "
            "or prepare larger images"
        )
    if args.sync_batchnorm:
        model = processes.synchronise_batchnorm(model, device.type)
    # Where, called what, saved how often: no part of the result.
    labels = "data", "out", "device", "setting", "checkpoint_every"
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    run = Run(
        args=args,
        settings={name: value for name, value in vars(args).items() if name not in labels}
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
        setting=setting,
        name=f"{setting}-{args.seed}",
    )
    atexit.register(_demand_minimum, run, method_file, sys.modules["__main__"])
    return run


def _demand_minimum(run: Run, method_file: str, program: ModuleType):
    """The end of a process without `finish`: status 1, where the method ran to its own end.

    A method that was stopped on its way has said why.
    """
    is_ending = sys.modules["__main__"] is program  # tests run several in one process
    if not is_ending or len(run.curves["lr"]) < run.args.epochs:
        return
    if processes.first():
        print(
            f"{method_file}: trained, and left no minimum; end it with pretraining.finish(run)",
            file=sys.stderr,
        )
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)  # nothing else changes the status of a process that is ending


def save(run: Run, beside: str = ""):
    """Writes the run's network as it is now, the minimum, to weights.safetensors in --out.

    `beside`: to a folder of that name in there. It is a minimum of its own, which a method leaves
    beside the one that it is run for.
    """
    if not processes.first():
        return
    models.save(
        Path(run.args.out) / beside / "weights.safetensors",
        run.model.state_dict(),
        **fields(run, beside),
        arch=run.args.arch,
        classes=run.pack.classes,
        image_size=run.pack.image_size,
        data=run.pack.fingerprint,
        code=provenance.code(),
        commit=provenance.commit(),
        command=provenance.command(),
    )


def fields(run: Run, beside: str = "") -> dict:
    """What a minimum is, as its files say it: the run's own, or the one `beside` it."""
    inside = f"/{beside}" if beside else ""
    return {
        "method": run.method,
        "setting": run.setting + inside,
        "minimum": run.name + inside,
        "start": "",  # a seed, not another minimum
        "seed": run.args.seed,
    }


def finish(run: Run, gradients: int = 1, **attributes):
    """Writes the minimum: training.h5 with curves and final values, then the weights, last.

    `gradients`: how many an image took each epoch. `attributes`: what else training.h5 says of the
    run, such as how many weights were averaged.
    """
    atexit.unregister(_demand_minimum)
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
        attributes |= {"gradients": gradients}
        write_training(run, Path(args.out) / "training.h5", final, attributes)
        save(run)
        run.checkpoint.unlink(missing_ok=True)
    processes.end()


def write_training(run: Run, path: Path, final: dict[str, list[float]], attributes: dict):
    """Writes training.h5: curves by epoch, `final` {split: [loss, accuracy]} as saved, and further
    `attributes`.
    """
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
            fields(run),
            kind="training",
            weights=models.digest(run.model.state_dict()),
            data=run.pack.fingerprint,
            target=args.target,
            epoch_target_reached=reached[0] if reached else np.nan,
            **attributes,
        )
        curves.write(file, run.curves)
        for split, (loss, accuracy) in final.items():
            file[f"final/{split}_loss"] = loss
            file[f"final/{split}_accuracy"] = accuracy
