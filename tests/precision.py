"""Which faster precision agrees with float32? Accuracy at every level of four perturbations, one draw, on the test images of a minimum.

    python -m tests.precision --data artifacts/small/data/pretrain.h5 --minimum artifacts/small/adam-0

Allowed is what differs by at most 0.1 percentage point of accuracy at every level on 2,500 images. TF32 is emulated where there is no GPU: inputs
and weights of every layer rounded to 10 bits of mantissa, sums in float32. float16 is itself, on any device.
"""

import copy
from importlib import import_module
from pathlib import Path
from time import perf_counter

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from common import cli, devices, seeds
from common.images import packs
from common.measuring import bench as measure
from common.networks import models, weights

MEASUREMENTS = "gaussian_noise", "square_mask", "fgsm", "local_energy"


def ten_bits(values):
    """float32 `values` rounded to nearest, ties to even, with 10 bits of mantissa."""
    bits = values.clone().view(torch.int32)
    return ((bits + 0xFFF + ((bits >> 13) & 1)) & ~0x1FFF).view(torch.float32)


def tf32(net):
    net = copy.deepcopy(net)
    for layer in net.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.weight.data = ten_bits(layer.weight.data)
            layer.register_forward_pre_hook(lambda _, inputs: (ten_bits(inputs[0]),))
    return net


def split(images):
    """(N, 6, H, W) bfloat16: the high parts of the channels, then what is left."""
    high = images.bfloat16()
    return torch.cat([high, (images - high.float()).bfloat16()], 1)


def candidates(net, model):
    """{name: function of images (N, 3, H, W) that returns logits}; `net`: float32, BatchNorm folded; `model`: the same, not folded."""
    low, half, first, six = (
        copy.deepcopy(net).bfloat16(),
        copy.deepcopy(net).half(),
        *(copy.deepcopy(net).bfloat16() for _ in range(2)),
    )
    name, stem = next(
        (name, layer) for name, layer in net.named_modules() if isinstance(layer, nn.Conv2d)
    )
    exact = copy.deepcopy(stem)
    exact.register_forward_hook(lambda _, inputs, output: output.bfloat16())
    first.set_submodule(name, exact)
    wide = nn.Conv2d(6, stem.out_channels, stem.kernel_size, stem.stride, stem.padding).to(
        stem.weight.device
    )
    wide.weight.data, wide.bias.data = (
        torch.cat([stem.weight, stem.weight], 1),
        stem.bias.data.clone(),
    )
    six.set_submodule(name, wide.bfloat16().to(memory_format=torch.channels_last))

    def autocast(images):
        with torch.autocast(images.device.type, torch.float16):
            return model(images)

    return {
        "float32": net,
        "bfloat16": lambda images: low(images.bfloat16()),
        "first convolution float32": first,
        "input high + low": lambda images: six(split(images)),
        "10 bits of mantissa": tf32(net),
        "float16": lambda images: half(images.half()),
        "float16 not folded": autocast,
    }


def rounds(bench, module, levels, seed):
    """Yields (level's number, images, labels, float32 network, the same not folded): one draw of a perturbation, block by block."""
    blocks = bench.splits["test"].split(measure.BLOCK)
    if measure.family(module) == "inputs":
        for block, at in enumerate(blocks):
            images, labels = bench.pack.batch(at)
            generator = seeds.generator("cpu", seed, measure.name_of(module), 0, "test", block)
            for level, perturbed in enumerate(
                module.perturb(images, labels, levels, generator, bench.net)
            ):
                yield level, perturbed, labels, bench.net, bench.model
        return
    with bench.moved():
        generator, found = (
            seeds.generator("cpu", seed, measure.name_of(module), 0),
            weights.conv_linear(bench.model),
        )
        draws = [
            module.perturb_weight(weight.clone(), levels, generator) for weight in found.values()
        ]
        for level, moved in enumerate(zip(*draws, strict=True)):
            for weight, value in zip(found.values(), moved):
                weight.copy_(value)
            bench.settle()
            for at in blocks:
                yield level, *bench.pack.batch(at), bench.net, bench.model


@torch.no_grad()
def main():
    parser = measure.flags(cli.Parser(__doc__))
    parser.add_argument("--minimum", required=True, metavar="FOLDER", type=Path)
    parser.add_argument(
        "--every", type=cli.count, default=1, metavar="N", help="measure every N-th level"
    )
    parser.add_argument(
        "--ways",
        type=lambda text: text.split(","),
        metavar="NAME,…",
        help="only these precisions; float32 comes first",
    )
    args = parser.parse_args()
    pack = packs.load(args.data, devices.choose(args.device))
    bench = measure.Bench(models.load(args.minimum / "weights.safetensors")[0], pack, args)
    count, ways = len(bench.splits["test"]), args.ways or list(candidates(bench.net, bench.model))
    print(
        f"largest difference from float32 over the levels: accuracy in percentage points (at the first level above 0), loss in nats; images/s; {count} images"
    )
    for name in MEASUREMENTS:
        module = import_module(f"eval.{name}")
        levels, forwards, known = module.LEVELS[:: args.every], None, None
        total, seconds = (
            {way: torch.zeros(2, len(levels), dtype=torch.float64) for way in ways},
            dict.fromkeys(ways, 0.0),
        )
        for level, images, labels, net, model in rounds(bench, module, levels, args.seed):
            if forwards is None or (measure.family(module) == "weights" and level != known):
                forwards, known = candidates(net, model), level
            for way in ways:
                began = perf_counter()
                logits = forwards[way](images).float()
                total[way][:, level] += (
                    torch.stack(
                        [
                            (logits.argmax(1) == labels).sum(),
                            cross_entropy(logits, labels, reduction="sum"),
                        ]
                    ).cpu()
                    / count
                )
                seconds[way] += perf_counter() - began
        for way in ways:
            accuracy, loss = (total[way] - total["float32"]).abs()
            print(
                f"{name:15} {way:26} {100 * accuracy.max():.2f} ({100 * accuracy[1]:.2f}) {loss.max():.4f} {count * len(levels) / seconds[way]:8.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
