"""Measurements on a minimum: levels, repeats, splits, sums over images, and common random numbers.

A measurement is a file in eval/ with TITLE, SOURCE and one function:

    perturb(images, labels, levels, generator, model)   a generator: draws once, then yields the perturbed images of each level in turn
    perturb_weight(weight, levels, generator)           the same for one convolution or linear weight
    measure(model, batches, generator)                  {name: number} of the whole network; batches() iterates (images, labels)

The first two also give LEVEL (the level's name), UNITS, LEVELS and REPEATS (defaults); all may give BATCHNORM, the treatments of BatchNorm's
statistics under which they run (default: stored). One unit draw serves all levels because `perturb` draws before its loop, and all minima
because the generator is seeded from (seed, measurement, split, block, repeat) alone, where a block is 250 images by their place in the split.
"""
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from common import cli, device as devices, weights

BLOCK = 250


def name_of(module):
    """A measurement's name: its file's."""
    return Path(module.__file__).stem


def flags(parser):
    """The flags of everything that measures."""
    parser.add_argument("--data", required=True, metavar="FILE", help="pack of images")
    parser.add_argument("--images", type=cli.count, default=2500, metavar="N", help="images measured of each of train and test, stratified")
    parser.add_argument("--batchnorm-images", type=cli.count, default=2500, metavar="N",
                        help="training images over which BatchNorm statistics are recomputed")
    parser.add_argument("--batch-size", type=cli.count, default=500, help=f"images at once, rounded up to whole blocks of {BLOCK}")
    parser.add_argument("--seed", type=cli.whole, default=0, help="of the random draws; the same for all minima that are compared")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    return parser


def family(module):
    """What a measurement perturbs: "inputs", "weights", or nothing ("scalar")."""
    return "inputs" if hasattr(module, "perturb") else "weights" if hasattr(module, "perturb_weight") else "scalar"


class Bench:
    """A network on its images: what one needs to put a measured number on them. Float32, eval mode, no parameter asks for a gradient."""

    def __init__(self, model, pack, args):
        self.model, self.pack, self.seed = model.to(pack.device).eval().requires_grad_(False), pack, args.seed
        self.splits = {split: pack.subset(split, args.images) for split in ("train", "test")}
        self.batchnorm_images = pack.subset("train", args.batchnorm_images)
        self.blocks = -(-args.batch_size // BLOCK)

    def recompute(self):
        """Recomputes BatchNorm's statistics for the weights as they are now."""
        weights.recompute_batchnorm(self.model, self.pack, self.batchnorm_images, self.blocks * BLOCK)

    @torch.no_grad()
    def sweep(self, split, perturb=None, levels=(0.0,), seed=()):
        """Loss (nats, float32) and correctness (bool) of every image of `split` at every level: two (L, N) tensors on the device."""
        blocks, loss, correct = self.splits[split].split(BLOCK), [], []
        for first in range(0, len(blocks), self.blocks):
            members = range(first, min(first + self.blocks, len(blocks)))
            loaded = [self.pack.batch(blocks[member]) for member in members]
            labels = torch.cat([own for _, own in loaded])
            generators = [devices.generator(self.pack.device, self.seed, *seed, split, member) for member in members]
            levelwise = [perturb(images, own, levels, generator, self.model) if perturb else [images]
                         for (images, own), generator in zip(loaded, generators)]
            logits = [self.model(torch.cat(images)) for images in zip(*levelwise, strict=True)]
            loss.append(torch.stack([cross_entropy(level, labels, reduction="none") for level in logits]))
            correct.append(torch.stack([level.argmax(1) == labels for level in logits]))
        return torch.cat(loss, 1), torch.cat(correct, 1)


def measure_inputs(bench, module, levels, repeats):
    """Yields (split, repeat, loss, correct), the last two (L, N), for a perturbation of images."""
    for split in bench.splits:
        for repeat in range(repeats):
            yield split, repeat, *bench.sweep(split, module.perturb, levels, (name_of(module), repeat))


def measure_weights(bench, module, levels, repeats, recompute):
    """The same for a perturbation of weights: one draw a repeat, for all levels, minima and splits."""
    found = weights.conv_linear(bench.model).values()
    for repeat in range(repeats):
        with weights.moved(bench.model), torch.no_grad():
            generator = devices.generator(bench.pack.device, bench.seed, name_of(module), repeat)
            draws = [module.perturb_weight(weight.clone(), levels, generator) for weight in found]
            rows = {split: [] for split in bench.splits}
            for moved in zip(*draws, strict=True):
                for weight, value in zip(found, moved):
                    weight.copy_(value)
                if recompute:
                    bench.recompute()
                for split in bench.splits:
                    rows[split].append(bench.sweep(split))
        for split, results in rows.items():
            yield split, repeat, *map(torch.cat, zip(*results))


def group(bench, module, levels, repeats, batchnorm):
    """Runs one measurement under one treatment of BatchNorm; returns its datasets {path: array}."""
    recompute = batchnorm == "recomputed"
    if family(module) == "scalar":
        return {f"{split}/{name}": np.array([value]) for split, index in bench.splits.items() for name, value in module.measure(
            bench.model, lambda: map(bench.pack.batch, index.split(BLOCK)),
            devices.generator(bench.pack.device, bench.seed, name_of(module), split)).items()}
    with weights.moved(bench.model):
        if family(module) == "weights":
            results = measure_weights(bench, module, levels, repeats, recompute)
        else:
            if recompute:
                bench.recompute()
            results = measure_inputs(bench, module, levels, repeats)
        arrays = {"levels": np.array(levels, np.float64)}
        for split, index in bench.splits.items():
            shape = len(levels), len(index)
            arrays |= {f"{split}/loss": np.empty((len(levels), repeats)), f"{split}/accuracy": np.empty((len(levels), repeats)),
                       f"{split}/loss_by_image": np.zeros(shape), f"{split}/correct_by_image": np.zeros(shape, np.uint8)}
        for split, repeat, loss, correct in results:
            loss, correct = loss.double().cpu().numpy(), correct.cpu().numpy()
            if len(loss) != len(levels):
                raise SystemExit(f"{name_of(module)}: yielded {len(loss)} levels of {len(levels)}")
            arrays[f"{split}/loss"][:, repeat], arrays[f"{split}/accuracy"][:, repeat] = loss.mean(1), correct.mean(1)
            arrays[f"{split}/loss_by_image"] += loss / repeats
            arrays[f"{split}/correct_by_image"] += correct
    return {path: value.astype(np.float32) if path.endswith("loss_by_image") else value for path, value in arrays.items()}
