"""Finetuning a minimum several times: new head, own image order, distance travelled, and the file
that holds all runs of one mode.

A mode reads: `for run in runs(args, __file__)`: an optimizer, a step, `fit(run, step, optimizer)`.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from common import cli, devices, files, provenance, seeds
from common.images import packs
from common.networks import models, weights
from common.training import curves, forgetting, loop
from common.training.run import Run, add_flags, setting_of

TARGET = 0.95  # train accuracy whose epoch is recorded
CODE = "common/training", "common/networks", "common/images/packs.py"  # what results depend on


def parser(doc: str) -> cli.Parser:
    """The flags of every finetuning mode. A mode adds its own, three at most."""
    parser = add_flags(cli.Parser(doc), epochs=15, lr=1e-4, weight_decay=0.0)
    add = parser.add_argument
    add("--minimum", required=True, metavar="FOLDER", help="folder that holds weights.safetensors")
    add(
        "--out",
        required=True,
        metavar="FILE",
        help="HDF5 file of all runs; runs that it holds already are kept",
    )
    add(
        "--runs",
        type=cli.count,
        default=5,
        metavar="N",
        help="repetitions, each with its own head and image order",
    )
    add(
        "--measure-on",
        default="test",
        choices=["test", "val"],
        help="val: for tuning, which never sees the test images",
    )
    add(
        "--test-at-end",
        action="store_true",
        help="measure those images after the last epoch alone; the curve before it is NaN",
    )
    add(
        "--source",
        default="",
        metavar="FILE",
        help="the pack that the minimum was trained on: what is forgotten of it is measured before "
        "the first step and after the last",
    )
    add(
        "--source-images",
        type=cli.integer(2),
        default=forgetting.IMAGES,
        metavar="N",
        help="test images of it that are measured, and training images over which BatchNorm's "
        "statistics are recomputed, stratified",
    )
    add("--source-every-epoch", action="store_true", help="and after every epoch between them")
    return parser


def runs(args, mode_file: str) -> Iterator[Run]:
    """Yields a Run for each repetition that --out does not hold yet; then writes --out.

    `mode_file` is the mode's `__file__`: its name is the mode's. Run k has the same head and the
    same image order for every minimum: minima are compared in pairs.
    """
    mode, setting = Path(mode_file).stem, setting_of(args, mode_file)
    device = devices.choose(args.device, args.deterministic)
    folder, out = Path(args.minimum), Path(args.out)
    pack = packs.load(args.data, device)
    _, metadata = models.load(folder / "weights.safetensors")
    if metadata["image_size"] != pack.image_size:
        raise SystemExit(
            f"{args.data}: {pack.image_size} px images, but {folder} was trained at "
            f"{metadata['image_size']} px"
        )
    labels = "data", "minimum", "out", "runs", "device", "setting", "source", "checkpoint_every"
    settings = {name: value for name, value in vars(args).items() if name not in labels}
    settings |= {"data": pack.fingerprint, "minimum": metadata["sha256"]}
    source = None
    if args.source:
        source = forgetting.Source(folder, args.source, device, args.source_images)
        settings["source"] = source.pack.fingerprint
    fingerprint = files.sha256(settings, provenance.source(mode_file, *CODE))
    hardware = devices.describe(device, devices.training_dtype(device, args.precision))
    attributes = provenance.stamp(settings, metadata["seed"], fingerprint, hardware) | {
        "kind": "finetune",
        "weights": metadata["sha256"],
        "data": pack.fingerprint,
        "minimum": metadata["minimum"],
        "start": metadata["minimum"],
        "method": metadata["method"],
        "setting": metadata["setting"],
        "task": Path(args.data).stem,
        "mode": mode,
        "mode_setting": setting,
        "target": TARGET,
    }
    measured = {
        "train": pack.subset("train", args.train_images),
        args.measure_on: pack.indices(args.measure_on),
    }
    images = {split: len(indices) for split, indices in measured.items()}
    images |= {"source": len(source.test)} if source else {}
    attributes["images_measured"] = json.dumps(images)
    unfinished, checkpoint = out.with_suffix(".part.h5"), out.with_suffix(".resume.h5")
    done = max(
        (read_runs(path, fingerprint)[: args.runs] for path in (out, unfinished)),
        key=len,
    )
    for number in range(len(done), args.runs):
        model, _ = models.load(folder / "weights.safetensors")
        models.replace_head(model, len(pack.classes), seeds.derive("head", number))
        run = Run(
            args=args,
            settings=settings | {"run": number},
            seed=["finetune", number],
            pack=pack,
            model=model,
            train=pack.indices("train"),
            measured=measured,
            checkpoint=checkpoint,
            method=mode,
            setting=setting,
            name=" ".join(
                [metadata["minimum"], attributes["task"], setting, f"run {number + 1}/{args.runs}"]
            ),
            at_end=(args.measure_on,) if args.test_at_end else (),
            source=source,
        )
        yield run
        done.append(
            {
                name: np.array(values)
                for name, values in run.curves.items()
                if name != "lr" and "running" not in name
            }
        )
        write_runs(unfinished, done, attributes)
        checkpoint.unlink(missing_ok=True)
    # Written once more: the file that lies there may be of other settings, or hold more runs.
    write_runs(unfinished, done, attributes)
    checkpoint.unlink(missing_ok=True)  # a kill may have come between a run's end and this
    files.replace(unfinished, out)


def fit(run: Run, step: loop.Step, optimizer, **keywords):
    """Trains to the end, as loop.epochs with these `keywords` does; records how far it went, and
    what it forgot.
    """
    distances = Distances(run.model)
    positions = loop.epochs(run, step, optimizer, before=True, **keywords)
    if run.source:
        positions = run.source.follow(run, positions, run.args.source_every_epoch)
    distances.follow(positions, run.curves)


class Distances:
    """How far each group of parameters has moved from where it was when this was made.

    distance: Euclidean norm of the straight line from the start; distance_relative: that, divided
    by the group's norm at the start; path: sum of the lengths of all steps. Groups: all, weights,
    batchnorm (networks.weights.groups) and every top-level module, each without the head; the head;
    with_head, which is everything.
    """

    def __init__(self, model: torch.nn.Module):
        named = dict(model.named_parameters())
        groups = self._groups(model, named)
        self.names = list(groups)
        self.parameters = list(named.values())
        self.origin = [value.detach().clone() for value in self.parameters]
        device = self.parameters[0].device
        self.membership = torch.tensor(  # (parameters, groups) of 0 and 1
            [[name in members for members in groups.values()] for name in named],
            dtype=torch.float64,
            device=device,
        )
        self.previous = None  # the parameters before the step that is being taken
        self.path = torch.zeros(len(groups), dtype=torch.float64, device=device)
        self.norms = self._lengths(self.origin)

    @staticmethod
    def _groups(model, named) -> dict[str, set[str]]:
        """{group: names of its parameters}."""
        head = {name for name in named if name.startswith(f"{models.head(model)[0]}.")}
        groups = weights.groups(model, without=head) | {"head": head, "with_head": named}
        for child, _ in model.named_children():
            members = {name for name in named if name.startswith(f"{child}.")} - head
            if members:  # Swin's child `head` is the head, and has no other
                groups[child] = members
        return {group: set(members) for group, members in groups.items() if members}

    def _lengths(self, tensors, dtype=torch.float64) -> torch.Tensor:
        """Euclidean norm of each group (groups,) of `tensors`, one a parameter."""
        squares = torch.stack(torch._foreach_norm(tensors, dtype=dtype)).double().square()
        return (squares @ self.membership).sqrt()

    @torch.no_grad()
    def _add_last_step(self, *_):
        """Adds the length of the last step to the path; called before the next step."""
        if self.previous is None:  # the first step: a resumed run has its weights by now
            self.previous = [value.clone() for value in self.parameters]
            return
        torch._foreach_sub_(self.previous, self.parameters)
        # At every step: float32 is 1e-5 of it off, and takes a tenth of the time.
        self.path.add_(self._lengths(self.previous, torch.float32))
        torch._foreach_copy_(self.previous, self.parameters)

    @contextmanager
    def _at_every_step(self):
        """A block in which every optimizer's step adds to the path."""
        hook = register_optimizer_step_pre_hook(self._add_last_step)
        try:
            yield
        finally:
            hook.remove()

    def follow(self, positions: Iterator[loop.Position], run_curves: dict[str, list]):
        """Runs `positions` to their end; after every epoch appends each group's lengths."""
        self.previous = None
        with self._at_every_step():
            for position in positions:
                if position.last:
                    self._add_last_step()
                    self._append(run_curves)

    @torch.no_grad()
    def _append(self, run_curves: dict[str, list]):
        moved = self._lengths(torch._foreach_sub(self.parameters, self.origin))
        for kind, lengths in ("distance", moved), ("distance_relative", moved / self.norms):
            for group, length in zip(self.names, lengths.tolist()):
                run_curves[f"{kind}/{group}"].append(length)
        for group, length in zip(self.names, self.path.tolist()):
            curve = run_curves[f"path/{group}"]
            curve.append(length + (curve[-1] if curve else 0))
        self.path.zero_()


def epochs_to(target: float, accuracy: np.ndarray) -> float:
    """The first crossing of `target` on a curve (E+1,) by epoch, linear between epochs.

    NaN if it never reaches it.
    """
    reached = np.flatnonzero(accuracy >= target)
    if not len(reached):
        return np.nan
    first = int(reached[0])
    if first == 0:
        return 0.0
    before, after = accuracy[first - 1], accuracy[first]
    return float(first - 1 + (target - before) / (after - before))


def read_runs(path: Path, fingerprint: str) -> list[dict[str, np.ndarray]]:
    """The runs [{curve: (E+1,)}] of a file; none if it is missing, damaged or of other settings.

    SystemExit with one line where it is not ours to write over.
    """
    if not path.exists():
        return []
    try:
        file = files.read(path)
    except SystemExit as error:
        if "damaged" not in str(error):
            raise
        print(f"{error}: finetuning again", flush=True)
        return []
    with file:
        if file.attrs.get("kind") != "finetune" or file.attrs["fingerprint"] != fingerprint:
            return []
        names = ["seconds"]
        for group, members in file.items():
            if hasattr(members, "keys"):
                names += [f"{group}/{name}" for name in members]
        by_run = {name: file[name][()] for name in names}
        epoch = file["epoch"][()]
        return [
            {"epoch": epoch} | {name: values[run] for name, values in by_run.items()}
            for run in range(len(by_run["seconds"]))
        ]


def write_runs(path: Path, done: list[dict[str, np.ndarray]], attributes: dict):
    """Writes all runs of one mode: curves (R, E+1) and epochs_to_target (R,)."""
    together = {name: [run[name] for run in done] for name in done[0] if name != "epoch"}
    with files.write(path) as file:
        file.attrs.update(attributes)
        curves.write(file, {"epoch": done[0]["epoch"]} | together)
        file["epochs_to_target"] = [epochs_to(TARGET, run["train/accuracy"]) for run in done]
