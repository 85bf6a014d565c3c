"""Everything that moves weights: select by module type, perturb, interpolate, average, distance, and what BatchNorm's statistics become.

Statistics are `stored` (as the file has them) or `recomputed`: reset, then one sample-weighted pass over clean training images in a
fixed order. A network whose weights moved without that is measured on statistics of another network.
"""

from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

CONV_LINEAR = nn.modules.conv._ConvNd, nn.Linear, nn.MultiheadAttention


def conv_linear(model):
    """{name: weight} of all convolutions and linear layers, attention's included, by module type: 20 and 1 in ResNet18, with its shortcuts."""
    return {
        f"{name}.{key}": value
        for name, module in model.named_modules()
        if isinstance(module, CONV_LINEAR)
        for key, value in module.named_parameters(recurse=False)
        if key.endswith("weight")
    }


def batchnorm_parameters(model):
    """{name: parameter} of all BatchNorm layers (weight and bias; statistics are buffers, and no part of any norm)."""
    return {
        f"{name}.{key}": parameter
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm)
        for key, parameter in module.named_parameters(recurse=False)
    }


def groups(model, without=()):
    """The three groups in which distances are given: {"all"|"weights"|"batchnorm": {name: parameter}}, less the names in `without`."""
    found = {
        "all": dict(model.named_parameters()),
        "weights": conv_linear(model),
        "batchnorm": batchnorm_parameters(model),
    }
    return {
        group: {name: value for name, value in members.items() if name not in without}
        for group, members in found.items()
    }


def multiplicative_noise(weight, levels, generator):
    """Yields w·(1 + sigma·z), the shape of `weight`, for each sigma of `levels`: one draw z ~ N(0, 1), made on the CPU."""
    z = torch.randn(weight.shape, generator=generator).to(weight.device, weight.dtype)
    for sigma in levels:
        yield weight * (1 + sigma * z)


@torch.no_grad()
def norm(tensors):
    """Euclidean norm of all entries of a list of tensors, summed in float64."""
    return (
        torch.stack(
            [torch.linalg.vector_norm(value.detach(), dtype=torch.float64) for value in tensors]
        )
        .norm()
        .item()
    )


@torch.no_grad()
def distance(a, b):
    """Euclidean geometry of two sets of tensors {name: tensor} of equal names: raw ‖a−b‖, relative to the mean of the two norms, cosine (NaN where there are none)."""
    totals = torch.zeros(4, dtype=torch.float64)
    for name in a:
        x, y = a[name].double().cpu(), b[name].double().cpu()
        totals += torch.stack(
            [(x - y).square().sum(), x.square().sum(), y.square().sum(), (x * y).sum()]
        )
    difference, aa, bb = totals[:3].sqrt()
    return {
        "raw": difference.item(),
        "relative": (2 * difference / (aa + bb)).item(),
        "cosine": (totals[3] / (aa * bb)).item(),
    }


@torch.no_grad()
def interpolate(model, a, b, t):
    """Sets `model` to (1−t)·a + t·b, two state dicts: parameters and BatchNorm statistics; integer buffers stay as they are."""
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            value.copy_((1 - t) * a[name] + t * b[name])


@contextmanager
def moved(model):
    """A block in which `model`'s weights and statistics may be changed: all are put back at its end."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    try:
        yield model
    finally:
        model.load_state_dict(before)


class Average:
    """Equal-weight running mean of a network's parameters, with the epoch at which averaging branched off (inf: not yet)."""

    def __init__(self):
        self.branch, self.count, self.mean = float("inf"), 0, {}

    @torch.no_grad()
    def update(self, model):
        """Takes the parameters of `model` into the mean."""
        self.count += 1
        for name, value in model.named_parameters():
            if self.count == 1:
                self.mean[name] = value.detach().clone()
            else:
                self.mean[name] += (value - self.mean[name]) / self.count

    @torch.no_grad()
    def copy_to(self, model):
        """Gives `model` the mean parameters; its BatchNorm statistics are then those of another network: recompute them."""
        for name, value in model.named_parameters():
            value.copy_(self.mean[name])

    def state_dict(self):
        return {"branch": self.branch, "count": self.count, "mean": self.mean}

    def load_state_dict(self, saved):
        self.branch, self.count, self.mean = saved["branch"], saved["count"], saved["mean"]
