"""Folding BatchNorm into the convolution before it, for measuring: the same function with fewer
passes over memory.
"""

import copy
from collections.abc import Callable

import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.fusion import fuse_conv_bn_weights

from common.networks import small_maps


def fold(
    model: nn.Module, dtype: torch.dtype = torch.float32
) -> tuple[nn.Module, nn.Module, Callable[[], None]]:
    """(folded, fast, refold) of `model` in eval mode.

    `folded` is the same function, every BatchNorm folded into the convolution before it; `fast` is
    that in `dtype`, images and logits too (for float32 it is `folded` itself). `refold()` brings
    both up to date after weights or statistics of `model` moved.

    A network that cannot be traced is returned as it is, twice.
    """
    try:
        folded = fx.symbolic_trace(small_maps.plain(copy.deepcopy(model).eval()))
    except (fx.proxy.TraceError, TypeError):
        return model, model, lambda: None
    pairs = _remove_batchnorms(folded)
    small_maps.use_matrix_products(folded)
    fast = folded
    if dtype != torch.float32:
        fast = copy.deepcopy(folded).to(dtype)
        for module in fast.modules():
            # One that follows no convolution is left; PyTorch keeps its statistics in float32.
            if isinstance(module, _BatchNorm):
                module.float()
    modules = dict(model.named_modules())

    @torch.no_grad()
    def refold():
        state = model.state_dict()
        for convolution, batchnorm in pairs.items():
            weight, bias = _fuse(modules[convolution], modules[batchnorm])
            state[f"{convolution}.weight"], state[f"{convolution}.bias"] = weight, bias
        for network in {folded, fast}:
            for name, value in network.state_dict().items():
                if name in state:  # else a constant, which tracing made of a number
                    value.copy_(state[name])

    refold()
    return folded, fast, refold


def _remove_batchnorms(traced: fx.GraphModule) -> dict[str, str]:
    """Takes every BatchNorm that follows a convolution out of the traced network, in place.

    The convolution gets a bias. Returns {name of the convolution: name of its BatchNorm}.
    """
    modules = dict(traced.named_modules())
    targets = [node.target for node in traced.graph.nodes]
    pairs = {}
    for node in list(traced.graph.nodes):
        if node.op != "call_module" or not isinstance(modules[node.target], _BatchNorm):
            continue
        before = node.args[0]
        if not _is_convolution(before, modules):
            continue
        # Nothing else may read what the convolution gives, nor call it a second time.
        if len(before.users) != 1 or targets.count(before.target) != 1:
            continue
        pairs[before.target] = node.target
        convolution = modules[before.target]
        zeros = convolution.weight.new_zeros(convolution.out_channels)
        convolution.bias = nn.Parameter(zeros, requires_grad=False)
        node.replace_all_uses_with(before)
        traced.graph.erase_node(node)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return pairs


def _is_convolution(node, modules: dict[str, nn.Module]) -> bool:
    """Whether a node of the graph calls a convolution, not a transposed one."""
    if not isinstance(node, fx.Node) or node.op != "call_module":
        return False
    module = modules[node.target]
    return isinstance(module, _ConvNd) and not module.transposed


def _fuse(convolution: nn.Module, batchnorm: nn.Module) -> tuple[nn.Parameter, nn.Parameter]:
    """Weight and bias of the convolution that does what the two do."""
    return fuse_conv_bn_weights(
        convolution.weight,
        convolution.bias,
        batchnorm.running_mean,
        batchnorm.running_var,
        batchnorm.eps,
        batchnorm.weight,
        batchnorm.bias,
    )
