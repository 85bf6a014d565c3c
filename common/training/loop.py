"""The training loop. It owns epochs, precision, compile, printing, validation, checkpoint and resume; a method owns its step.

All randomness of an epoch comes from (seed, epoch), so a resumed run draws what the uninterrupted one would have drawn.
"""

import inspect
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from types import SimpleNamespace

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from common import cli, devices, files, provenance, replay, seeds
from common.images import packs
from common.networks import batchnorm
from common.training import checkpoint, processes


def flags(parser, epochs, lr, weight_decay):
    """The flags that pretraining and finetuning share; their defaults are the protocol's."""
    parser.add_argument("--data", required=True, metavar="FILE", help="pack of images")
    parser.add_argument(
        "--epochs", type=cli.count, default=epochs, help="passes over the training images"
    )
    parser.add_argument(
        "--batch-size",
        type=cli.count,
        default=256,
        help="images a step; an epoch's incomplete last batch is dropped",
    )
    parser.add_argument("--lr", type=cli.rate, default=lr, help="Adam's lr")
    parser.add_argument(
        "--weight-decay", type=cli.amount, default=weight_decay, help="coupled (L2) weight decay"
    )
    parser.add_argument(
        "--decay-from",
        type=cli.fraction,
        default=1.0,
        metavar="FRACTION",
        help="lr is constant up to this fraction of training, then falls linearly to 0",
    )
    parser.add_argument(
        "--train-images",
        type=cli.count,
        default=2500,
        help="training images whose eval-mode curve is recorded",
    )
    parser.add_argument(
        "--precision",
        default="auto",
        choices=["auto", "bfloat16", "float16", "float32"],
        help="autocast of the step",
    )
    parser.add_argument(
        "--sync-batchnorm",
        action="store_true",
        help="under torchrun, BatchNorm over the whole batch, not each process's part of it",
    )
    devices.flags(parser)
    return parser


@dataclass
class Run:
    """What a training run is made of; `fit` writes `curves` and the 0-d tensor `lr`, a step draws noise from `generator`."""

    args: SimpleNamespace
    settings: dict  # what the result depends on, JSON-able
    seed: list  # all randomness derives from it
    pack: packs.Pack
    model: torch.nn.Module
    train: torch.Tensor  # indices trained on
    measured: dict  # {split: indices} whose eval-mode loss and accuracy are recorded every epoch
    checkpoint: Path
    device: torch.device
    dtype: torch.dtype
    lr: torch.Tensor
    generator: torch.Generator
    scaler: torch.amp.GradScaler
    curves: dict
    name: str
    part: slice  # which images of a batch this process takes: all, but under torchrun
    net: torch.nn.Module = None  # `model`, whose gradients are averaged over processes
    origin: dict = None  # where finetuning starts: {name: parameter}

    @property
    def share(self):
        """This process's fraction of a batch."""
        return (self.part.stop - self.part.start) / self.args.batch_size

    def randn(self, images):
        """N(0, 1) of the shape of `images`: this process's part of what is drawn for the whole batch."""
        return torch.randn(
            self.args.batch_size, *images.shape[1:], generator=self.generator, device=images.device
        )[self.part]

    def forward(self, images, labels, reduction="mean"):
        """(loss in nats, logits) under the run's precision; the loss is always float32."""
        with devices.autocast(self.device, self.dtype):
            logits = self.net(images)
        return cross_entropy(logits.float(), labels, reduction=reduction), logits

    def backward(self, loss, optimizer):
        """Fresh gradients of the loss."""
        optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss * (self.share * processes.WORLD)).backward()

    def update(self, optimizer):
        """One update with the gradients that are there."""
        self.scaler.step(optimizer)
        self.scaler.update()

    def descend(self, loss, optimizer):
        """Backward and update: what most steps end with."""
        self.backward(loss, optimizer)
        self.update(optimizer)


def start(args, settings, seed, pack, model, train, measured, checkpoint, name):
    """Assembles a Run from its parts."""
    device, dtype = pack.device, devices.training_dtype(pack.device, args.precision)
    if args.batch_size > len(train):
        raise SystemExit(
            f"--batch-size {args.batch_size}: larger than the {len(train)} training images of {args.data}"
        )
    if args.batch_size < processes.WORLD:
        raise SystemExit(
            f"--batch-size {args.batch_size}: fewer images than the {processes.WORLD} processes"
        )
    if args.sync_batchnorm and processes.WORLD > 1:
        if device.type == "cpu":
            raise SystemExit("--sync-batchnorm: PyTorch has it on GPUs alone")
        model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)
    model = model.to(device)
    return Run(
        args,
        settings,
        seed,
        pack,
        model,
        train,
        measured,
        checkpoint,
        device,
        dtype,
        part=processes.part(args.batch_size),
        net=model,
        lr=torch.tensor(args.lr, device=device),
        generator=torch.Generator(device),
        scaler=torch.amp.GradScaler(device.type, enabled=dtype == torch.float16),
        curves=defaultdict(list),
        name=name,
    )


def adam(run, parameters=None):
    """torch.optim.Adam with the run's lr tensor and --weight-decay, fused."""
    return torch.optim.Adam(
        parameters or run.model.parameters(),
        lr=run.lr,
        weight_decay=run.args.weight_decay,
        fused=True,
        capturable=run.device.type == "cuda",
    )


def constant_then_linear(args):
    """lr(progress) for progress in [0, 1]: --lr up to --decay-from, then linearly to 0."""

    def lr(progress):
        return args.lr * min(1, (1 - progress) / max(1 - args.decay_from, 1e-12))

    return lr


@torch.no_grad()
def evaluate(model, pack, index, batch_size=500):
    """(mean loss in nats, accuracy) of `model` in eval mode over the images `index`; modes are restored."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    total = torch.zeros(2, dtype=torch.float64, device=pack.device)
    for images, labels in pack.batches(index.split(batch_size)[processes.RANK :: processes.WORLD]):
        with devices.autocast(pack.device, devices.measuring_dtype(pack.device)):
            logits = model(images).float()
        total += torch.stack(
            [cross_entropy(logits, labels, reduction="sum"), (logits.argmax(1) == labels).sum()]
        )
    for module, training in modes.items():
        module.training = training
    return (processes.total(total) / len(index)).tolist()


def fit(run, step, optimizer, lr=None, state=None, parts=1, before=False):
    """Trains; a generator that pauses after each of `parts` equal parts of every epoch, so that the method can act there.

    Yields positions with `epoch` (1 … epochs), `last` (the epoch's last part) and, where last, `accuracy` (running). What the method
    does at a last part is inside the epoch's checkpoint. `state`: any object with state_dict and load_state_dict, saved with the run.
    `before`: also records the curves at epoch 0, before the first step. Raises SystemExit where the loss is not finite.
    """
    args, curves = run.args, run.curves
    lr = lr or constant_then_linear(args)
    identity = files.sha256(
        run.settings,
        run.seed,
        sorted(run.measured),
        str(run.dtype),
        provenance.code(),
        provenance.source(inspect.getfile(step)),
    )
    done = checkpoint.load(run, optimizer, state, identity)
    for group in optimizer.param_groups:
        group["lr"] = run.lr
    fast = run.device.type == "cuda" and not args.no_compile
    if fast:
        run.model.compile(dynamic=False)
    run.net = processes.averaging(run.model)
    if before and done == 0 and not curves["epoch"]:
        _record(run, 0, monotonic())
        yield SimpleNamespace(epoch=0, last=True, accuracy=None)
    steps = len(run.train) // args.batch_size
    ends = [steps * (part + 1) // parts for part in range(parts)]
    sums, finite = (
        torch.zeros(2, dtype=torch.float64, device=run.device),
        torch.zeros(1, dtype=torch.int64, device=run.device),
    )
    held = packs.Held(run.pack, run.part.stop - run.part.start)

    def body():
        images, labels = held.batch()
        loss, logits = step(images, labels)
        sums.add_(
            torch.stack([loss.detach(), (logits.detach().argmax(1) == labels).float().mean()]),
            alpha=run.share,
        )
        finite.add_(sums[0].isfinite())  # once it is not, it never is again: steps before that

    advance = replay.Replayed(body, run.generator, fast and processes.WORLD == 1)
    for epoch in range(done, args.epochs):
        began = monotonic()
        run.generator.manual_seed(seeds.derive("step", run.seed, epoch))
        order = run.train[seeds.permutation(len(run.train), "order", run.seed, epoch)].to(
            run.pack.images.device
        )
        fill = held.fill(
            [batch[run.part] for batch in order[: steps * args.batch_size].split(args.batch_size)]
        )
        sums.zero_(), finite.zero_()
        run.model.train()
        bar = tqdm(
            range(steps),
            desc=f"{run.name} {epoch + 1}/{args.epochs}",
            leave=False,
            disable=not (processes.FIRST and sys.stderr.isatty()),
        )
        for i in bar:
            run.lr.fill_(lr((epoch * steps + i) / (args.epochs * steps)))
            with devices.memory(args.batch_size):
                next(fill)
                advance()
            if i + 1 in ends[:-1]:
                yield SimpleNamespace(epoch=epoch + 1, last=False, accuracy=None)
        processes.total(sums), processes.least(finite)
        if processes.WORLD > 1:
            processes.average_statistics(
                [layer for layer in batchnorm.layers(run.model) if layer.training], run.share
            )
        (loss, accuracy), good = (sums / steps).tolist(), finite.item()
        if (
            good < steps
            or not torch.stack(
                [value.isfinite().all() for value in run.model.state_dict().values()]
            ).all()
        ):
            what = (
                f"loss is not finite at step {good + 1}"
                if good < steps
                else "weights are not finite after the last step"
            )
            raise SystemExit(
                f"{run.name}: the {what} of epoch {epoch + 1} (lr {lr((epoch + min(good, steps - 1) / steps) / args.epochs):g}); "
                "the checkpoint before it is kept; try a smaller --lr"
            )
        curves["running/loss"].append(loss)
        curves["running/accuracy"].append(accuracy)
        curves["lr"].append(run.lr.item())
        _record(run, epoch + 1, began)
        yield SimpleNamespace(epoch=epoch + 1, last=True, accuracy=accuracy)
        if epoch + 1 < args.epochs:  # what follows the last epoch takes less time than a checkpoint
            checkpoint.save(run, optimizer, state, identity, epoch + 1)


def _record(run, epoch, began):
    """Appends the eval-mode curves of an epoch and prints its line."""
    words = []
    run.curves["epoch"].append(epoch)
    for split, index in run.measured.items():
        loss, accuracy = evaluate(run.model, run.pack, index)
        run.curves[f"{split}/loss"].append(loss)
        run.curves[f"{split}/accuracy"].append(accuracy)
        words.append(f"{split} loss {loss:.3f} accuracy {accuracy:.3f}")
    run.curves["seconds"].append(monotonic() - began)
    print(
        f"{run.name} epoch {epoch}/{run.args.epochs}: {', '.join(words)} ({run.curves['seconds'][-1]:.1f} s)",
        flush=True,
    )


UNITS = {"loss": "nats per image", "accuracy": "fraction", "lr": "1", "seconds": "s"}


def write_curves(file, curves):
    """Curves by epoch as datasets (…, E) along the dimension scale `epoch` (E,)."""
    epoch = files.scale(file, "epoch", curves.pop("epoch"), "passes over the training images")
    for name, values in curves.items():
        values = np.asarray(values)
        files.array(
            file,
            name,
            values,
            UNITS.get(name.split("/")[-1], "1"),
            *[None] * (values.ndim - 1),
            epoch,
        )
