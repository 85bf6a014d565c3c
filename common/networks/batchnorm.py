"""What BatchNorm's statistics become when weights move.

They are `stored` (as the file has them) or `recomputed`: reset, then one sample-weighted pass over
clean training images in a fixed order. A network whose weights moved without that is measured on
the statistics of another network.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from common import devices, seeds


def layers(model: nn.Module) -> list[_BatchNorm]:
    """The BatchNorm layers that keep statistics."""
    return [
        module
        for module in model.modules()
        if isinstance(module, _BatchNorm) and module.track_running_stats
    ]


def image_order(count: int) -> torch.Tensor:
    """The order in which images are taken: a permutation (count,), always the same.

    A pack is sorted by class, and a batch of few classes varies less than the data do.
    """
    return seeds.permutation(count, "batchnorm")


def without_a_batch_of_one(batches: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """`batches` of images; a last batch of one image joins the one before it.

    One image has no variance where its maps are of one pixel.
    """
    *batches, last = batches
    if len(last) == 1 and batches:
        return [*batches[:-1], torch.cat([batches[-1], last])]
    return [*batches, last]


@torch.no_grad()
def recompute(model: nn.Module, pack, index, batch_size: int = 500, dtype=torch.float32):
    """Replaces BatchNorm's running statistics by those of the images `index` (N,) of `pack`.

    Each batch is weighted by its number of images. Only BatchNorm layers run in train mode
    meanwhile (no dropout); every module's mode and momentum are restored. Other layers compute in
    `dtype`. Of two images or more; a network without BatchNorm is left as it is.
    """
    batchnorms = layers(model)
    if not batchnorms:
        return
    index = index[image_order(len(index))]
    modes = {module: module.training for module in model.modules()}
    momenta = {layer: layer.momentum for layer in batchnorms}
    device = next(model.parameters()).device
    model.eval()
    for layer in batchnorms:
        layer.reset_running_stats()
        layer.train()
    seen, batches = 0, without_a_batch_of_one(index.split(batch_size))
    for batch, (images, _) in zip(batches, pack.batches(batches)):
        seen += len(batch)
        for layer in batchnorms:
            # running <- (1 - m) running + m batch: the sample-weighted mean over all batches so far
            layer.momentum = len(batch) / seen
        with devices.autocast(device, dtype):
            model(images)
    for module, training in modes.items():
        module.training = training
    for layer, momentum in momenta.items():
        layer.momentum = momentum
