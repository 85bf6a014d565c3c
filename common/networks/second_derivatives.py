"""Layers whose gradient PyTorch can compute, and the gradient's own derivative cannot: the same
functions by other ways, for as long as a Hessian is measured.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel


class Hardsigmoid(nn.Hardsigmoid):
    """nn.Hardsigmoid, in two steps that can be derived twice."""

    def forward(self, input: Tensor) -> Tensor:
        return (input + 3).clamp(0, 6) / 6


OTHER_WAYS = {nn.Hardsigmoid: Hardsigmoid}


@contextmanager
def available(model: nn.Module) -> Iterator[nn.Module]:
    """A block in which gradients through `model` can be derived again: its attention is computed
    step by step, and layers that have another way take it.
    """
    changed = {module: type(module) for module in model.modules() if type(module) in OTHER_WAYS}
    for module, kind in changed.items():
        module.__class__ = OTHER_WAYS[kind]
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield model
    except RuntimeError as error:
        if "derivative for" not in str(error):
            raise
        raise SystemExit(
            f"hessian: a layer of this network has no second derivative ({error}); leave hessian "
            "out of the measurements"
        ) from None
    finally:
        for module, kind in changed.items():
            module.__class__ = kind
