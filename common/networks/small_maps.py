"""Convolutions on very small maps as one matrix product.

At 32 or 64 pixels, ResNet18's last stages work on maps of 1x1 and 2x2 pixels, where a 3x3 kernel
mostly multiplies padding and the CPU library's gradients are several times slower than a matrix
product: with this, one AVX2 core trains 193 instead of 102 images/s at 32 px, 70 instead of 60 at
64 px. The result is the same up to rounding; names and weights stay
as they are, and so does what needs no gradient.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import unfold

LARGEST = 2  # side of the output maps that are taken as a matrix product


class PartOfKernel(torch.autograd.Function):
    """weight[:, :, rows, columns], whose gradient has the layout of `weight`.

    The gradient of plain indexing has another, and would be turned at every step, for 12 % of it.
    """

    @staticmethod
    def forward(ctx, weight: Tensor, rows: slice, columns: slice):
        ctx.save_for_backward(weight)
        ctx.rows, ctx.columns = rows, columns
        return weight[..., rows, columns]

    @staticmethod
    def backward(ctx, gradient: Tensor):
        (weight,) = ctx.saved_tensors
        result = torch.zeros_like(weight)
        result[..., ctx.rows, ctx.columns] = gradient
        return result, None, None


class SmallMapConv2d(nn.Conv2d):
    """nn.Conv2d that takes small output maps as a matrix product, on a CPU, where a gradient is
    wanted.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        sides = [
            (size + 2 * padding - kernel) // stride + 1
            for size, padding, kernel, stride in zip(
                input.shape[2:], self.padding, self.kernel_size, self.stride
            )
        ]
        if max(sides) > LARGEST or input.is_cuda or not torch.is_grad_enabled():
            return super()._conv_forward(input, weight, bias)
        if max(sides) == 1:
            # One position: only the part of the kernel that meets the image counts.
            (top, left), (kernel_height, kernel_width) = self.padding, self.kernel_size
            input = input[:, :, : kernel_height - top, : kernel_width - left]
            height, width = input.shape[2:]
            weight = PartOfKernel.apply(weight, slice(top, top + height), slice(left, left + width))
            columns = input.flatten(1)  # (N, C·height·width)
        else:
            columns = unfold(input, self.kernel_size, 1, self.padding, self.stride)
            columns = columns.transpose(1, 2)  # (N, positions, C·kernel_height·kernel_width)
        # Of two dimensions: for more, and a weight that wants no gradient, as in an attack, PyTorch
        # copies the weight for each image.
        output = columns.flatten(0, -2) @ weight.flatten(1).t()
        if bias is not None:
            output = output + bias
        return output.view(len(input), *sides, -1).permute(0, 3, 1, 2)  # channels last


def use_matrix_products(model: nn.Module) -> nn.Module:
    """Makes every plain convolution of `model` a SmallMapConv2d, in place."""
    for module in model.modules():
        if (
            type(module) is nn.Conv2d
            and module.groups == 1
            and module.dilation == (1, 1)
            and module.padding_mode == "zeros"
            and not isinstance(module.padding, str)
        ):
            module.__class__ = SmallMapConv2d
    return model


def plain(model: nn.Module) -> nn.Module:
    """Makes every SmallMapConv2d of `model` a plain convolution again, in place."""
    for module in model.modules():
        if type(module) is SmallMapConv2d:
            module.__class__ = nn.Conv2d
    return model
