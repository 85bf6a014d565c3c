"""The training loop: epochs, lr, precision, compile, validation, checkpoint and resume.

A method owns its step, `step(images, labels) -> loss, logits`; the loop calls it, batch after
batch. All randomness of an epoch comes from (seed, epoch), so a resumed run draws what the
uninterrupted one would have drawn.
"""

import inspect
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import monotonic

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from common import devices, files, provenance, replay, seeds
from common.images.packs import Pack, demand_same
from common.training import checkpoint, processes
from common.training.curves import Running
from common.training.run import Run

Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
Schedule = Callable[[float], float]  # from progress, 0 to 1, to lr


@dataclass
class Position:
    """Where training is when the loop pauses."""

    epoch: int  # 1 … epochs; 0 before the first step
    last: bool = False  # whether the epoch is over
    accuracy: float | None = None  # running train accuracy of the epoch that is over


def constant_then_linear(args) -> Schedule:
    """--lr up to the fraction --decay-from of training, then linearly to 0."""

    def lr(progress):
        return args.lr * min(1, (1 - progress) / max(1 - args.decay_from, 1e-12))

    return lr


def fit(run: Run, step: Step, optimizer, lr: Schedule | None = None, state=None):
    """Trains to the end: `epochs`, for a method with nothing to do between its steps."""
    for _ in epochs(run, step, optimizer, lr, state):
        pass


def epochs(
    run: Run,
    step: Step,
    optimizer: torch.optim.Optimizer,
    lr: Schedule | None = None,
    state=None,
    parts: int = 1,
    before: bool = False,
) -> Iterator[Position]:
    """Trains; pauses after each of `parts` equal parts of every epoch, so that a method can act.

    What the method does when an epoch is over still belongs to that epoch's checkpoint.
    `state`: any object with state_dict and load_state_dict, saved with the run. `before`: also
    pauses, and records the curves, before the first step. Raises SystemExit where the loss or a
    weight is not finite, or the pack was replaced meanwhile.
    """
    args, curves = run.args, run.curves
    lr = lr or constant_then_linear(args)
    identity = identity_of(run, step)
    done = checkpoint.load(run, optimizer, state, identity)
    for group in optimizer.param_groups:
        group["lr"] = run.lr  # a loaded optimizer has a copy of its own, which nobody would fill
    if run.compiled:
        run.model.compile(dynamic=False)  # in place, and after the weights were loaded
    run.net = processes.average_gradients(run.model)
    take_step = replay.Replayed(step, run.generator, run.compiled and processes.WORLD == 1)
    running = Running(run)
    steps, pauses = run.steps, pauses_in(run.steps, parts)
    saved = monotonic()

    if before and not curves["epoch"]:
        record(run, 0, monotonic())
        yield Position(epoch=0, last=True)

    for epoch in range(done, args.epochs):
        began = monotonic()
        # What layers draw (dropout, stochastic depth) comes from PyTorch's own generators.
        torch.manual_seed(seeds.derive("layers", run.seed, epoch, processes.RANK))
        run.generator.manual_seed(seeds.derive("step", run.seed, epoch))
        run.model.train()
        running.reset()
        with devices.explain_out_of_memory(args.batch_size):
            for index, (images, labels) in enumerate(batches(run, epoch)):
                run.lr.fill_(lr((epoch * steps + index) / (args.epochs * steps)))
                loss, logits = take_step(images, labels)
                running.add(loss, logits, labels)
                if index + 1 in pauses:
                    yield Position(epoch + 1)

        processes.average_statistics(run.model, run.share)
        mean_loss, accuracy, finite_steps = running.result(steps)
        refuse_infinity(run, lr, epoch, steps, finite_steps)
        demand_same(args.data, run.pack)
        curves["running/loss"].append(mean_loss)
        curves["running/accuracy"].append(accuracy)
        curves["lr"].append(run.lr.item())
        record(run, epoch + 1, began)
        yield Position(epoch + 1, last=True, accuracy=accuracy)
        # What follows the last epoch is shorter than a checkpoint.
        if epoch + 1 < args.epochs and monotonic() - saved >= args.checkpoint_every:
            checkpoint.save(run, optimizer, state, identity, epoch + 1)
            saved = monotonic()


def pauses_in(steps: int, parts: int) -> set[int]:
    """The steps after which `parts` equal parts of an epoch of `steps` end, but for its last.

    There are fewer where an epoch has fewer steps than parts.
    """
    return {steps * part // parts for part in range(1, parts)} - {0}


def identity_of(run: Run, step: Step) -> str:
    """A hash of all that the run's result depends on: a checkpoint of another one is not used."""
    method = provenance.source(inspect.getfile(step))
    measured = sorted(run.measured)
    return files.sha256(run.settings, run.seed, measured, str(run.dtype), provenance.code(), method)


def batches(run: Run, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields (images, labels) of each step of an epoch, in the order that (seed, epoch) gives.

    Under torchrun a batch is this process's rows of it. An incomplete last batch is dropped.
    """
    size = run.args.batch_size
    steps = run.steps
    order = run.train[seeds.permutation(len(run.train), "order", run.seed, epoch)]
    order = order.to(run.pack.images.device)
    indices = [batch[run.rows] for batch in order[: steps * size].split(size)]
    return tqdm(
        run.pack.batches(indices),
        desc=f"{run.name} {epoch + 1}/{run.args.epochs}",
        total=steps,
        leave=False,
        disable=not (processes.first() and sys.stderr.isatty()),
    )


def refuse_infinity(run: Run, lr: Schedule, epoch: int, steps: int, finite_steps: int):
    """SystemExit with step, epoch and lr where the loss, or a weight after it, is not finite."""
    weights_finite = torch.stack(
        [value.isfinite().all() for value in run.model.state_dict().values()]
    ).all()
    if finite_steps == steps and weights_finite:
        return
    what = f"loss is not finite at step {finite_steps + 1}"
    if finite_steps == steps:
        what = "weights are not finite after the last step"
    progress = (epoch + min(finite_steps, steps - 1) / steps) / run.args.epochs
    raise SystemExit(
        f"{run.name}: the {what} of epoch {epoch + 1} (lr {lr(progress):g}); "
        "the checkpoint before it is kept; try a smaller --lr"
    )


def record(run: Run, epoch: int, began: float):
    """Appends the eval-mode curves of an epoch that began at `began` (s), and prints its line."""
    words = []
    run.curves["epoch"].append(epoch)
    for split, index in run.measured.items():
        loss = accuracy = math.nan
        if split not in run.at_end or epoch == run.args.epochs:
            loss, accuracy = evaluate(run.model, run.pack, index)
            words.append(f"{split} loss {loss:.3f} accuracy {accuracy:.3f}")
        run.curves[f"{split}/loss"].append(loss)
        run.curves[f"{split}/accuracy"].append(accuracy)
    seconds = monotonic() - began
    run.curves["seconds"].append(seconds)
    print(
        f"{run.name} epoch {epoch}/{run.args.epochs}: {', '.join(words)} ({seconds:.1f} s)",
        flush=True,
    )


@torch.no_grad()
def evaluate(model: torch.nn.Module, pack: Pack, index: Tensor, batch_size=500) -> list[float]:
    """[mean loss in nats, accuracy] of `model` in eval mode over the images `index` (N,).

    Every module's mode is restored.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    dtype = devices.measuring_dtype(pack.device)
    total = torch.zeros(2, dtype=torch.float64, device=pack.device)
    for images, labels in pack.batches(processes.mine(index.split(batch_size))):
        with devices.autocast(pack.device, dtype):
            logits = model(images).float()
        loss = cross_entropy(logits, labels, reduction="sum")
        total += torch.stack([loss, (logits.argmax(1) == labels).sum()])
    for module, training in modes.items():
        module.training = training
    return (processes.total(total) / len(index)).tolist()
