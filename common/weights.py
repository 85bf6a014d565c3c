"""Everything that moves weights: select by module type, perturb, interpolate, average, distance, and what BatchNorm's statistics become.

Statistics are `stored` (as the file has them) or `recomputed`: reset, then one sample-weighted pass over clean training images in a
fixed order. A network whose weights moved without that is measured on statistics of another network.
"""
import copy
import functools
from contextlib import contextmanager

import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights

from common import conv, device as devices, ranks

CONV_LINEAR = nn.modules.conv._ConvNd, nn.Linear, nn.MultiheadAttention


def conv_linear(model):
    """{name: weight} of all convolutions and linear layers, attention's included, by module type: 20 and 1 in ResNet18, with its shortcuts."""
    return {f"{name}.{key}": value for name, module in model.named_modules() if isinstance(module, CONV_LINEAR)
            for key, value in module.named_parameters(recurse=False) if key.endswith("weight")}


def batchnorm_layers(model):
    """The BatchNorm layers that keep statistics."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]


def batchnorm(model):
    """{name: parameter} of all BatchNorm layers (weight and bias; statistics are buffers, and no part of any norm)."""
    return {f"{name}.{key}": parameter for name, module in model.named_modules() if isinstance(module, _BatchNorm)
            for key, parameter in module.named_parameters(recurse=False)}


def groups(model, without=()):
    """The three groups in which distances are given: {"all"|"weights"|"batchnorm": {name: parameter}}, less the names in `without`."""
    found = {"all": dict(model.named_parameters()), "weights": conv_linear(model), "batchnorm": batchnorm(model)}
    return {group: {name: value for name, value in members.items() if name not in without} for group, members in found.items()}


def multiplicative_noise(weight, levels, generator):
    """Yields w·(1 + sigma·z), the shape of `weight`, for each sigma of `levels`: one draw z ~ N(0, 1), made on the CPU."""
    z = torch.randn(weight.shape, generator=generator).to(weight.device, weight.dtype)
    for sigma in levels:
        yield weight * (1 + sigma * z)


@torch.no_grad()
def norm(tensors):
    """Euclidean norm of all entries of a list of tensors, summed in float64."""
    return torch.stack([torch.linalg.vector_norm(value.detach(), dtype=torch.float64) for value in tensors]).norm().item()


@torch.no_grad()
def distance(a, b):
    """Euclidean geometry of two sets of tensors {name: tensor} of equal names: raw ‖a−b‖, relative to the mean of the two norms, cosine (NaN where there are none)."""
    totals = torch.zeros(4, dtype=torch.float64)
    for name in a:
        x, y = a[name].double().cpu(), b[name].double().cpu()
        totals += torch.stack([(x - y).square().sum(), x.square().sum(), y.square().sum(), (x * y).sum()])
    difference, aa, bb = totals[:3].sqrt()
    return {"raw": difference.item(), "relative": (2 * difference / (aa + bb)).item(), "cosine": (totals[3] / (aa * bb)).item()}


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


def mixed(count):
    """The order in which BatchNorm's statistics are recomputed: a permutation (count,), always the same."""
    return torch.randperm(count, generator=devices.generator("cpu", "batchnorm"))


@torch.no_grad()
def recompute_batchnorm(model, pack, index, batch_size=500, dtype=torch.float32):
    """Replaces BatchNorm's running statistics by those of the images `index`, each batch weighted by its number of images.

    The images come in a fixed random order: a pack is sorted by class, and a batch of few classes varies less than the data do. Only BatchNorm
    layers run in train mode meanwhile (no dropout); every module's mode and momentum are restored. Other layers compute in `dtype`.
    """
    index = index[mixed(len(index))]
    layers = batchnorm_layers(model)
    modes = {module: module.training for module in model.modules()}
    momenta = {layer: layer.momentum for layer in layers}
    model.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.train()
        if isinstance(layer, nn.SyncBatchNorm):  # its own would ask the other processes
            layer.forward = functools.partial(_BatchNorm.forward, layer)
    seen, batches = 0, index.split(batch_size)
    own = batches[ranks.RANK::ranks.WORLD]
    for at, (images, _) in zip(own, pack.batches(own)):
        seen += len(at)
        for layer in layers:
            layer.momentum = len(at) / seen  # running ← (1−m)·running + m·batch: the sample-weighted mean over all batches so far
        with devices.autocast(next(model.parameters()).device, dtype):
            model(images)
    for module, training in modes.items():
        module.training = training
    for layer, momentum in momenta.items():
        layer.momentum = momentum
        vars(layer).pop("forward", None)
    if ranks.WORLD > 1:
        average_statistics(layers, seen / len(index))


@torch.no_grad()
def average_statistics(layers, share):
    """BatchNorm's statistics become the mean over all processes, each of which has seen its `share` of the images."""
    for layer in layers:
        for value in layer.running_mean, layer.running_var:
            ranks.total(value.mul_(share))


def fold(model, dtype=torch.float32):
    """(network, fast, refold): a copy of `model` in eval mode with every BatchNorm folded into the convolution before it: the same function,
    fewer passes over memory; `fast` is that in `dtype`, images and logits too. `refold()` brings both up to date after weights or statistics
    of `model` moved.

    Which BatchNorm follows which convolution is read from the traced graph; a network that cannot be traced is returned as it is, twice.
    """
    try:
        net = fx.symbolic_trace(conv.plain(copy.deepcopy(model).eval()))
    except (fx.proxy.TraceError, TypeError):
        return model, model, lambda: None
    modules, folded = dict(net.named_modules()), {}
    targets = [node.target for node in net.graph.nodes]
    for node in list(net.graph.nodes):
        before = node.args[0] if node.op == "call_module" and isinstance(modules[node.target], _BatchNorm) else None
        if isinstance(before, fx.Node) and before.op == "call_module" and isinstance(modules[before.target], nn.modules.conv._ConvNd) \
                and not modules[before.target].transposed and len(before.users) == targets.count(before.target) == 1:
            folded[before.target] = node.target
            modules[before.target].bias = nn.Parameter(modules[before.target].weight.new_zeros(modules[before.target].out_channels), False)
            node.replace_all_uses_with(before)
            net.graph.erase_node(node)
    net.delete_all_unused_submodules()
    net.recompile()
    conv.use_matrix_products(net)
    fast = net if dtype == torch.float32 else copy.deepcopy(net).to(dtype)
    for module in fast.modules():
        if isinstance(module, _BatchNorm) and fast is not net:  # one that follows no convolution: PyTorch keeps its statistics in float32
            module.float()
    source = dict(model.named_modules())

    @torch.no_grad()
    def refold():
        state = model.state_dict()
        for convolution, batchnorm in folded.items():
            from_, norm = source[convolution], source[batchnorm]
            state[f"{convolution}.weight"], state[f"{convolution}.bias"] = fuse_conv_bn_weights(
                from_.weight, from_.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
        for own in {net, fast}:
            for name, value in own.state_dict().items():
                value.copy_(state[name])

    refold()
    return net, fast, refold


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
