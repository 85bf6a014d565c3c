"""Which faster precision agrees with float32? Accuracy at every level of four perturbations, one
draw, on the test images of a minimum.

    A=artifacts/small
    python -m tests.precision --data $A/data/pretrain.h5 --minimum $A/adam-0

Allowed is what differs by at most 0.1 percentage point of accuracy at every level on 2,500 images.
TF32 is emulated where there is no GPU: inputs and weights of every layer rounded to 10 bits of
mantissa, sums in float32. float16 is itself, on any device.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from common import cli, devices, seeds
from common.images import packs
from common.measuring import sweep
from common.measuring.bench import Bench, add_flags
from common.measuring.measurement import Measurement, groups, resolve
from common.networks import models

MEASUREMENTS = ("gaussian_noise", "square_mask", "fgsm", "local_energy")


def ten_bits(values):
    """float32 `values` rounded to nearest, ties to even, with 10 bits of mantissa."""
    bits = values.clone().view(torch.int32)
    return ((bits + 0xFFF + ((bits >> 13) & 1)) & ~0x1FFF).view(torch.float32)


def tf32(net):
    """`net` as TF32 computes it."""
    net = copy.deepcopy(net)
    for layer in net.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.weight.data = ten_bits(layer.weight.data)
            layer.register_forward_pre_hook(lambda _, inputs: (ten_bits(inputs[0]),))
    return net


def first_layer_exact(net):
    """`net` in bfloat16, but for its first convolution, which is float32."""
    result = copy.deepcopy(net).bfloat16()
    name, stem = first_convolution(net)
    exact = copy.deepcopy(stem)
    exact.register_forward_hook(lambda _, inputs, output: output.bfloat16())
    result.set_submodule(name, exact)
    return result


def six_channels(net):
    """`net` in bfloat16 on images of six channels: their high parts, and what is left of them."""
    result = copy.deepcopy(net).bfloat16()
    name, stem = first_convolution(net)
    wide = nn.Conv2d(6, stem.out_channels, stem.kernel_size, stem.stride, stem.padding)
    wide = wide.to(stem.weight.device)
    wide.weight.data = torch.cat([stem.weight, stem.weight], 1)
    wide.bias.data = stem.bias.data.clone()
    result.set_submodule(name, wide.bfloat16().to(memory_format=torch.channels_last))
    return result


def first_convolution(net):
    """(name, module) of the first convolution."""
    return next(item for item in net.named_modules() if isinstance(item[1], nn.Conv2d))


def split(images):
    """(N, 6, H, W) bfloat16: the high parts of the channels, then what is left."""
    high = images.bfloat16()
    return torch.cat([high, (images - high.float()).bfloat16()], 1)


def candidates(bench):
    """{name: function of images (N, 3, H, W) that returns logits}, of the network as it is now."""
    low, half = copy.deepcopy(bench.folded).bfloat16(), copy.deepcopy(bench.folded).half()
    six, model = six_channels(bench.folded), bench.model

    def autocast(images):
        with torch.autocast(images.device.type, torch.float16):
            return model(images)

    return {
        "float32": bench.folded,
        "bfloat16": lambda images: low(images.bfloat16()),
        "first convolution float32": first_layer_exact(bench.folded),
        "input high + low": lambda images: six(split(images)),
        "10 bits of mantissa": tf32(bench.folded),
        "float16": lambda images: half(images.half()),
        "float16 not folded": autocast,
    }


@dataclass
class Batch:
    """A block of test images at one level of a perturbation."""

    level: int  # the level's number
    images: Tensor
    labels: Tensor


def batches(bench: Bench, measurement: Measurement) -> Iterator[Batch]:
    """Yields one draw of a perturbation, block by block and level by level.

    Where it perturbs weights, the bench's networks are perturbed meanwhile.
    """
    levels = measurement.levels
    if measurement.family == "weights":
        (group,) = groups(measurement, bench.model)
        moves = sweep.moved_weights(bench, measurement, group.variant, levels, repeat=0)
        for level, _ in enumerate(moves):
            bench.settle()
            for images, labels in bench.batches("test"):
                yield Batch(level, images, labels)
        return
    for block, (images, labels) in enumerate(bench.batches("test")):
        generator = seeds.generator("cpu", bench.seed, measurement.name, 0, "test", block)
        perturbed = measurement.perturb(images, labels, levels, generator, bench.folded)
        for level, level_images in enumerate(perturbed):
            yield Batch(level, level_images, labels)


def compare(bench: Bench, measurement: Measurement, ways: list[str]):
    """({way: (accuracy, loss) by level (2, L)}, {way: seconds}) of one draw."""
    count = len(bench.splits["test"])
    totals = {way: torch.zeros(2, len(measurement.levels), dtype=torch.float64) for way in ways}
    seconds = dict.fromkeys(ways, 0.0)
    forwards, level = {}, None
    for batch in batches(bench, measurement):
        if not forwards or (measurement.family == "weights" and batch.level != level):
            forwards, level = candidates(bench), batch.level
        for way in ways:
            began = perf_counter()
            logits = forwards[way](batch.images).float()
            correct = (logits.argmax(1) == batch.labels).sum()
            loss = cross_entropy(logits, batch.labels, reduction="sum")
            totals[way][:, batch.level] += torch.stack([correct, loss]).cpu() / count
            seconds[way] += perf_counter() - began
    return totals, seconds


@torch.no_grad()
def main():
    parser = add_flags(cli.Parser(__doc__))
    add = parser.add_argument
    add("--minimum", required=True, metavar="FOLDER", type=Path)
    add("--every", type=cli.count, default=1, metavar="N", help="measure every N-th level")
    add(
        "--ways",
        type=lambda text: text.split(","),
        metavar="NAME,…",
        help="only these precisions; float32 comes first",
    )
    args = parser.parse_args()
    pack = packs.load(args.data, devices.choose(args.device))
    bench = Bench(models.load(args.minimum / "weights.safetensors")[0], pack, args)
    count, ways = len(bench.splits["test"]), args.ways or list(candidates(bench))
    print(
        "largest difference from float32 over the levels: accuracy in percentage points (at the "
        f"first level above 0), loss in nats; images/s; {count} images"
    )
    for name in MEASUREMENTS:
        measurement = resolve(import_module(f"eval.{name}"))
        levels = measurement.levels[:: args.every]
        measurement = replace(measurement, levels=levels, batchnorm=["stored"])
        totals, seconds = compare(bench, measurement, ways)
        for way in ways:
            accuracy, loss = (totals[way] - totals["float32"]).abs()
            rate = count * len(levels) / seconds[way]
            print(
                f"{name:15} {way:26} {100 * accuracy.max():.2f} ({100 * accuracy[1]:.2f}) "
                f"{loss.max():.4f} {rate:8.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
