"""Folding BatchNorm into the convolution before it, for measuring."""

import copy

import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights

from common.networks import small_maps


def fold(model, dtype=torch.float32):
    """(network, fast, refold): a copy of `model` in eval mode with every BatchNorm folded into the convolution before it: the same function,
    fewer passes over memory; `fast` is that in `dtype`, images and logits too. `refold()` brings both up to date after weights or statistics
    of `model` moved.

    Which BatchNorm follows which convolution is read from the traced graph; a network that cannot be traced is returned as it is, twice.
    """
    try:
        net = fx.symbolic_trace(small_maps.plain(copy.deepcopy(model).eval()))
    except (fx.proxy.TraceError, TypeError):
        return model, model, lambda: None
    modules, folded = dict(net.named_modules()), {}
    targets = [node.target for node in net.graph.nodes]
    for node in list(net.graph.nodes):
        before = (
            node.args[0]
            if node.op == "call_module" and isinstance(modules[node.target], _BatchNorm)
            else None
        )
        if (
            isinstance(before, fx.Node)
            and before.op == "call_module"
            and isinstance(modules[before.target], nn.modules.conv._ConvNd)
            and not modules[before.target].transposed
            and len(before.users) == targets.count(before.target) == 1
        ):
            folded[before.target] = node.target
            modules[before.target].bias = nn.Parameter(
                modules[before.target].weight.new_zeros(modules[before.target].out_channels), False
            )
            node.replace_all_uses_with(before)
            net.graph.erase_node(node)
    net.delete_all_unused_submodules()
    net.recompile()
    small_maps.use_matrix_products(net)
    fast = net if dtype == torch.float32 else copy.deepcopy(net).to(dtype)
    for module in fast.modules():
        if (
            isinstance(module, _BatchNorm) and fast is not net
        ):  # one that follows no convolution: PyTorch keeps its statistics in float32
            module.float()
    source = dict(model.named_modules())

    @torch.no_grad()
    def refold():
        state = model.state_dict()
        for convolution, batchnorm in folded.items():
            from_, norm = source[convolution], source[batchnorm]
            state[f"{convolution}.weight"], state[f"{convolution}.bias"] = fuse_conv_bn_weights(
                from_.weight,
                from_.bias,
                norm.running_mean,
                norm.running_var,
                norm.eps,
                norm.weight,
                norm.bias,
            )
        for own in {net, fast}:
            for name, value in own.state_dict().items():
                value.copy_(state[name])

    refold()
    return net, fast, refold
