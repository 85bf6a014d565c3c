"""Measurements on a minimum: levels, repeats, splits, sums over images, and common random numbers.

A measurement is a file in eval/ with TITLE, SOURCE and one of these functions, or two:

    perturb(images, labels, levels, generator, model)   a generator: draws once, then yields the perturbed images of each level in turn
    perturb_weight(weight, levels, generator)           the same for one weight tensor, convolution and linear ones unless `variants` says else
    measure(model, batches, generator)                  {name: number} of the whole network; batches() iterates (images, labels)

The first two also give LEVEL (the level's name), UNITS, LEVELS and REPEATS (a number, or words that `perturb` then gets as repeat=). All may give

    BATCHNORM        the treatments of BatchNorm's statistics under which they run (default: stored)
    SPLITS           the splits (default: train and test)
    OPTIONS          {name: (type, default, help)}, flags that `perturb` or `measure` gets as keywords
    variants(model)  {suffix: what differs}, a group of results each: keywords of `perturb`, or the {name: weight} that are perturbed

One unit draw serves all levels because `perturb` draws before its loop, and all minima because the generator is seeded from (seed,
measurement, split, block, repeat) alone, where a block is 250 images by their place in the split. It draws on the CPU, then moves to the
device: the same numbers everywhere. Level 0 is never perturbed: it is the clean network.
"""

from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from common import cli, devices, seeds
from common.measuring import summary
from common.networks import batchnorm, folding, weights
from common.training import processes

BLOCK = 250
SPLITS = "train", "test"


def name_of(module):
    """A measurement's name: its file's."""
    return Path(module.__file__).stem


def flags(parser):
    """The flags of everything that measures."""
    parser.add_argument("--data", required=True, metavar="FILE", help="pack of images")
    parser.add_argument(
        "--images",
        type=cli.count,
        default=2500,
        metavar="N",
        help="images measured of each of train and test, stratified",
    )
    parser.add_argument(
        "--batchnorm-images",
        type=cli.count,
        default=2500,
        metavar="N",
        help="training images over which BatchNorm statistics are recomputed",
    )
    parser.add_argument(
        "--batch-size",
        type=cli.whole,
        default=0,
        metavar="N",
        help=f"images at once, rounded up to whole blocks of {BLOCK}; 0: {BLOCK} on a CPU, {10 * BLOCK} on a GPU",
    )
    parser.add_argument(
        "--seed",
        type=cli.whole,
        default=0,
        help="of the random draws; the same for all minima that are compared",
    )
    parser.add_argument(
        "--precision",
        default="auto",
        choices=["auto", "float16", "float32"],
        help="of forward passes; gradients are float32. auto: float16 on a GPU, float32 on a CPU",
    )
    devices.flags(parser)
    return parser


def family(module):
    """What a measurement perturbs: "inputs" (or, `clean`, nothing at its one level), "weights", or "scalar": it has no levels."""
    return (
        "weights"
        if hasattr(module, "perturb_weight")
        else "inputs"
        if hasattr(module, "LEVELS")
        else "scalar"
    )


class Bench:
    """A network on its images: what one needs to put a measured number on them. Eval mode, no parameter asks for a gradient.

    `model` is the minimum, float32, whose weights may be moved; `net` is the same function with BatchNorm folded, which perturbations get;
    `fast` is `net` at --precision, on which images are measured.
    """

    def __init__(self, model, pack, args):
        self.model, self.pack, self.seed = (
            model.to(pack.device).eval().requires_grad_(False),
            pack,
            args.seed,
        )
        self.dtype = devices.measuring_dtype(pack.device, args.precision)
        self.net, self.fast, self.refold = folding.fold(self.model, self.dtype)
        if self.fast is self.net:  # also where a network could not be folded
            self.dtype = torch.float32
        if pack.device.type == "cuda" and not args.no_compile and self.fast is not self.model:
            self.fast.compile(dynamic=False)
        self.splits = {split: pack.subset(split, args.images) for split in SPLITS}
        self.batchnorm_images = pack.subset("train", args.batchnorm_images)
        self.blocks = -(
            -(args.batch_size or (10 * BLOCK if pack.device.type == "cuda" else BLOCK)) // BLOCK
        )
        self.blocks = min(
            self.blocks, -(-args.images // (BLOCK * processes.WORLD))
        )  # each process has some
        self.cleaned = {}

    def settle(self, recompute=False):
        """After weights moved: BatchNorm's statistics become those of the moved weights, if asked, and `net` follows."""
        if recompute:
            batchnorm.recompute(self.model, self.pack, self.batchnorm_images, dtype=self.dtype)
        self.refold()

    @contextmanager
    def moved(self):
        """A block in which weights and statistics may be moved: all are put back at its end."""
        with weights.moved(self.model):
            yield
        self.refold()

    def clean(self, batchnorm):
        """{split: (loss (N,), correct (N,))} of the minimum itself, measured once."""
        if batchnorm not in self.cleaned:
            with self.moved():
                self.settle(batchnorm == "recomputed")
                self.cleaned[batchnorm] = {
                    split: [values[0] for values in self.sweep(split)] for split in self.splits
                }
        return self.cleaned[batchnorm]

    @torch.no_grad()
    def sweep(self, split, perturb=None, levels=(0.0,), seed=(), **keywords):
        """Loss (nats, float32) and correctness (bool) of every image of `split` at every level: two (L, N) tensors on the device."""
        found = self._sweep(self.fast, split, perturb, levels, seed, keywords)
        if (
            self.fast is not self.net and not found[0].isfinite().all()
        ):  # beyond 65,504, float16's largest
            found = self._sweep(self.net, split, perturb, levels, seed, keywords)
        return found

    def _sweep(self, net, split, perturb, levels, seed, keywords):
        blocks, loss, correct = self.splits[split].split(BLOCK), [], []
        dtype = self.dtype if net is self.fast else torch.float32
        for first in range(0, len(blocks), self.blocks):
            members = range(first, min(first + self.blocks, len(blocks)))
            if (
                first // self.blocks % processes.WORLD != processes.RANK
            ):  # another process's: its place in the sum over all
                nothing = torch.zeros(
                    len(levels),
                    sum(len(blocks[member]) for member in members),
                    device=self.pack.device,
                )
                loss.append(nothing), correct.append(nothing.byte())
                continue
            loaded = [self.pack.batch(blocks[member]) for member in members]
            labels = torch.cat([own for _, own in loaded])
            generators = [
                seeds.generator("cpu", self.seed, *seed, split, member) for member in members
            ]
            levelwise = [
                perturb(images, own, levels, generator, self.net, **keywords)
                if perturb
                else [images]
                for (images, own), generator in zip(loaded, generators)
            ]
            with devices.memory(BLOCK * self.blocks):
                logits = [
                    net(torch.cat(images).to(dtype)).float()
                    for images in zip(*levelwise, strict=True)
                ]
            loss.append(
                torch.stack([cross_entropy(level, labels, reduction="none") for level in logits])
            )
            correct.append(torch.stack([level.argmax(1) == labels for level in logits]).byte())
        return processes.total(torch.cat(loss, 1)), processes.total(torch.cat(correct, 1)).bool()


def measure_inputs(bench, module, levels, repeats, splits, keywords):
    """Yields (split, repeat, loss, correct), the last two (L, N), for a perturbation of images."""
    for split in splits:
        for repeat in range(repeats):
            own = {"repeat": module.REPEATS[repeat]} if isinstance(module.REPEATS, list) else {}
            yield (
                split,
                repeat,
                *bench.sweep(
                    split, module.perturb, levels, (name_of(module), repeat), **keywords, **own
                ),
            )


def measure_weights(bench, module, levels, repeats, splits, found, recompute):
    """The same for a perturbation of the weights `found`: one draw a repeat, for all levels, minima and splits."""
    for repeat in range(repeats):
        with bench.moved(), torch.no_grad():
            generator = seeds.generator("cpu", bench.seed, name_of(module), repeat)
            draws = [
                module.perturb_weight(weight.clone(), levels, generator)
                for weight in found.values()
            ]
            rows = {split: [] for split in splits}
            for moved in zip(*draws, strict=True):
                for weight, value in zip(found.values(), moved):
                    weight.copy_(value)
                bench.settle(recompute)
                for split in splits:
                    rows[split].append(bench.sweep(split))
        for split, results in rows.items():
            yield split, repeat, *map(torch.cat, zip(*results))


def groups(module, model):
    """{group: (batchnorm, variant)}: the groups of results that a measurement makes of `model`."""
    variants = (
        module.variants(model)
        if hasattr(module, "variants")
        else {"": weights.conv_linear(model) if family(module) == "weights" else {}}
    )
    return {
        "_".join(filter(None, [name_of(module), suffix, batchnorm.removeprefix("stored")])): (
            batchnorm,
            variant,
        )
        for suffix, variant in variants.items()
        for batchnorm in getattr(module, "BATCHNORM", ["stored"])
    }


def group(bench, module, levels=(), repeats=1, batchnorm="stored", variant=None, options=None):
    """One group of results as datasets {path: array}."""
    splits, recompute, options, arrays = (
        getattr(module, "SPLITS", SPLITS),
        batchnorm == "recomputed",
        options or {},
        {},
    )
    if hasattr(module, "measure"):
        with bench.moved():
            bench.settle(recompute)
            for split in splits:
                generator = seeds.generator("cpu", bench.seed, name_of(module), split)
                arrays |= {
                    f"{split}/{name}": np.array([value])
                    for name, value in module.measure(
                        bench.model,
                        lambda: map(bench.pack.batch, bench.splits[split].split(BLOCK)),
                        generator,
                        **options,
                    ).items()
                }
    if not levels:
        return arrays
    clean = {
        split: [values.cpu().numpy() for values in bench.clean(batchnorm)[split]]
        for split in splits
    }
    perturbed = [level for level in levels if level > 0]
    at = len(levels) - len(perturbed)
    loss = {
        split: np.empty((len(levels), repeats, len(bench.splits[split])), np.float32)
        for split in splits
    }
    correct = {split: np.empty(loss[split].shape, bool) for split in splits}
    for split in splits:
        loss[split][:at], correct[split][:at] = clean[split]
    if perturbed:
        with bench.moved():
            if family(module) == "weights":
                results = measure_weights(
                    bench, module, perturbed, repeats, splits, variant, recompute
                )
            else:
                bench.settle(recompute)
                results = measure_inputs(
                    bench, module, perturbed, repeats, splits, (variant or {}) | options
                )
            for split, repeat, *found in results:
                if len(found[0]) != len(perturbed):
                    raise SystemExit(
                        f"{name_of(module)}: yielded {len(found[0])} levels of {len(perturbed)}"
                    )
                loss[split][at:, repeat], correct[split][at:, repeat] = (
                    values.cpu().numpy() for values in found
                )
    arrays["levels"] = np.array(levels, np.float64)
    for split in splits:
        arrays |= {
            f"{split}/loss": loss[split].mean(2, dtype=np.float64),
            f"{split}/accuracy": correct[split].mean(2),
            f"{split}/loss_by_image": loss[split].mean(1, dtype=np.float64).astype(np.float32),
            f"{split}/correct_by_image": correct[split].sum(1, dtype=np.uint8),
        }
        arrays |= {
            f"summary/{split}/{name}": value
            for name, value in summary.of(
                levels, loss[split], correct[split], *clean[split]
            ).items()
        }
    return arrays
