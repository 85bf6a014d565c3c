"""Which faster precision agrees with float32? Accuracy at every level of the three input perturbations, one draw, on the test images of a minimum.

    python -m tests.precision --data artifacts/small/data/pretrain.h5 --minimum artifacts/small/adam-0

Allowed is what differs by at most 0.1 percentage point of accuracy at every level on 2,500 images. TF32 is emulated where there is no GPU: inputs
and weights of every layer rounded to 10 bits of mantissa, sums in float32.
"""
import copy
from importlib import import_module
from pathlib import Path
from time import perf_counter

import torch
from torch import nn

from common import cli, data, device as devices, measure, model as models

MEASUREMENTS = "gaussian_noise", "square_mask", "fgsm"


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


def candidates(net):
    """{name: function of images (N, 3, H, W) that returns logits}; `net`: float32, BatchNorm folded."""
    low, first, six = (copy.deepcopy(net).bfloat16() for _ in range(3))
    name, stem = next((name, layer) for name, layer in net.named_modules() if isinstance(layer, nn.Conv2d))
    exact = copy.deepcopy(stem)
    exact.register_forward_hook(lambda _, inputs, output: output.bfloat16())
    first.set_submodule(name, exact)
    wide = nn.Conv2d(6, stem.out_channels, stem.kernel_size, stem.stride, stem.padding).to(stem.weight.device)
    wide.weight.data, wide.bias.data = torch.cat([stem.weight, stem.weight], 1), stem.bias.data.clone()
    six.set_submodule(name, wide.bfloat16().to(memory_format=torch.channels_last))
    emulated = tf32(net)
    return {"float32": net, "bfloat16": lambda images: low(images.bfloat16()), "first convolution float32": first,
            "input high + low": lambda images: six(split(images)), "10 bits of mantissa": emulated}


@torch.no_grad()
def main():
    parser = measure.flags(cli.Parser(__doc__))
    parser.add_argument("--minimum", required=True, metavar="FOLDER", type=Path)
    args = parser.parse_args()
    pack = data.load(args.data, devices.choose(args.device))
    bench = measure.Bench(models.load(args.minimum / "weights.safetensors")[0], pack, args)
    forwards, images_of = candidates(bench.net), bench.splits["test"]
    print(f"largest difference of accuracy from float32 over the levels, percentage points (at the first level above 0); images/s; {len(images_of)} images")
    for name in MEASUREMENTS:
        module = import_module(f"eval.{name}")
        correct, seconds = {way: torch.zeros(len(module.LEVELS)) for way in forwards}, dict.fromkeys(forwards, 0.0)
        for block, at in enumerate(images_of.split(measure.BLOCK)):
            images, labels = pack.batch(at)
            generator = devices.generator("cpu", args.seed, name, 0, "test", block)
            for level, perturbed in enumerate(module.perturb(images, labels, module.LEVELS, generator, bench.net)):
                for way, forward in forwards.items():
                    began = perf_counter()
                    correct[way][level] += (forward(perturbed).argmax(1) == labels).sum().item()
                    seconds[way] += perf_counter() - began
        for way in forwards:
            gap = (correct[way] - correct["float32"]).abs() * 100 / len(images_of)
            print(f"{name:15} {way:26} {gap.max():.2f} ({gap[1]:.2f}) {len(images_of) * len(module.LEVELS) / seconds[way]:8.0f}", flush=True)


if __name__ == "__main__":
    main()
