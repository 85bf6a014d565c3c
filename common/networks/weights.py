"""Everything that moves weights: select them by module type, perturb, interpolate, average, and
measure how far they went.

A network whose weights moved has BatchNorm statistics of another network: see batchnorm.py.
"""

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

CONV_LINEAR = (nn.modules.conv._ConvNd, nn.Linear, nn.MultiheadAttention)

Tensors = dict[str, Tensor]  # {name in the network: tensor}


def conv_linear(model: nn.Module) -> Tensors:
    """Weights of all convolutions and linear layers, attention's included, by module type.

    In ResNet18: 20 convolutions, those of the shortcuts among them, and 1 linear layer.
    """
    return {
        name: value
        for name, value in _parameters_of(model, CONV_LINEAR).items()
        if name.endswith("weight")
    }


def batchnorm_parameters(model: nn.Module) -> Tensors:
    """Weight and bias of all BatchNorm layers. Statistics are buffers, and no part of any norm."""
    return _parameters_of(model, _BatchNorm)


def _parameters_of(model: nn.Module, kinds) -> Tensors:
    """The parameters that modules of these types have themselves."""
    return {
        f"{name}.{key}": parameter
        for name, module in model.named_modules()
        if isinstance(module, kinds)
        for key, parameter in module.named_parameters(recurse=False)
    }


def groups(model: nn.Module, without: Collection[str] = ()) -> dict[str, Tensors]:
    """The three groups in which distances are given: "all", "weights" (of convolutions and linear
    layers) and "batchnorm"; parameters named in `without` are left out of each.
    """
    members = {
        "all": dict(model.named_parameters()),
        "weights": conv_linear(model),
        "batchnorm": batchnorm_parameters(model),
    }
    return {
        group: {name: value for name, value in tensors.items() if name not in without}
        for group, tensors in members.items()
    }


def multiplicative_noise(
    weight: Tensor, levels: Iterable[float], generator: torch.Generator
) -> Iterator[Tensor]:
    """Yields w·(1 + sigma·z), the shape of `weight`, for each sigma of `levels`.

    One draw z ~ N(0, 1), made on the CPU, serves them all.
    """
    z = torch.randn(weight.shape, generator=generator).to(weight.device, weight.dtype)
    for sigma in levels:
        yield weight * (1 + sigma * z)


@torch.no_grad()
def distance(a: Tensors, b: Tensors) -> dict[str, float]:
    """Euclidean geometry of two sets of tensors of equal names, summed in float64.

    raw: |a - b|; relative: that, divided by the mean of |a| and |b|; cosine: of the angle between
    them. The last two are NaN where there are no tensors.
    """
    sums = torch.zeros(4, dtype=torch.float64)
    for name in a:
        x, y = a[name].double().cpu(), b[name].double().cpu()
        sums += torch.stack(
            [(x - y).square().sum(), x.square().sum(), y.square().sum(), (x * y).sum()]
        )
    raw, norm_a, norm_b = sums[:3].sqrt()
    return {
        "raw": raw.item(),
        "relative": (2 * raw / (norm_a + norm_b)).item(),
        "cosine": (sums[3] / (norm_a * norm_b)).item(),
    }


@torch.no_grad()
def interpolate(model: nn.Module, a: Tensors, b: Tensors, t: float):
    """Sets `model` to (1 - t)·a + t·b, two state dicts: parameters and BatchNorm's statistics.

    Integer buffers stay as they are.
    """
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            value.copy_((1 - t) * a[name] + t * b[name])


@contextmanager
def restored_after(model: nn.Module) -> Iterator[nn.Module]:
    """A block in which weights and statistics may be changed: all are put back at its end."""
    before = model.state_dict()  # which also holds versions of modules, beside the tensors
    before.update({name: value.clone() for name, value in before.items()})
    try:
        yield model
    finally:
        model.load_state_dict(before)


@contextmanager
def displaced(model: nn.Module, by: Tensors) -> Iterator[None]:
    """A block in which the parameters named in `by` are moved by its tensors, of equal shapes.

    At its end all parameters and buffers are put back, to the bit: BatchNorm's statistics are those
    of the network that was not moved. A backward pass belongs inside: it needs the moved values.
    """
    parameters = dict(model.named_parameters())
    moved = [parameters[name] for name in by]
    kept = [*moved, *model.buffers()]
    with torch.no_grad():
        before = [value.clone() for value in kept]
        torch._foreach_add_(moved, list(by.values()))
    try:
        yield
    finally:
        with torch.no_grad():
            torch._foreach_copy_(kept, before)


class Average:
    """Equal-weight running mean of a network's parameters.

    `branch` is the epoch at which averaging branched off (inf: not yet).
    """

    def __init__(self):
        self.branch = float("inf")
        self.count = 0  # networks in the mean
        self.mean: Tensors = {}

    @torch.no_grad()
    def update(self, model: nn.Module):
        """Takes the parameters of `model` into the mean."""
        self.count += 1
        for name, value in model.named_parameters():
            if self.count == 1:
                self.mean[name] = value.detach().clone()
            else:
                self.mean[name] += (value - self.mean[name]) / self.count

    @torch.no_grad()
    def copy_to(self, model: nn.Module):
        """Gives `model` the mean parameters. Its BatchNorm statistics are to be recomputed."""
        for name, value in model.named_parameters():
            value.copy_(self.mean[name])

    def state_dict(self) -> dict:
        return {"branch": self.branch, "count": self.count, "mean": self.mean}

    def load_state_dict(self, saved: dict):
        self.branch, self.count, self.mean = saved["branch"], saved["count"], saved["mean"]
