"""FGSM: clamp(x + epsilon·sign(gradient of the loss), 0, 1) (Goodfellow et al. 2014,
arXiv 1412.6572).
"""

import sys

import torch
from torch.nn.functional import cross_entropy

from common import cli
from common.measuring import passport

TITLE = "Adversarial attack (FGSM)"
SOURCE = "Goodfellow et al. 2014, arXiv 1412.6572; the original report"
LEVEL = "epsilon"
UNITS = "change of a pixel, images in [0, 1]"
LEVELS = [i / 1000 for i in range(31)]
LEVEL_TYPE = cli.fraction
REPEATS = 1
FOLLOWS_GRADIENT = True


def perturb(images, labels, levels, generator, model):
    """Yields images (N, 3, H, W) in [0, 1].

    One gradient, at the clean images and in float32, serves every epsilon.
    """
    with torch.enable_grad():
        images = images.detach().requires_grad_()
        # The sum over images: each image's gradient is then its own, whatever the batch size.
        loss = cross_entropy(model(images), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, images)
    images, sign = images.detach(), gradient.sign()
    for epsilon in levels:
        yield (images + epsilon * sign).clamp(0, 1)


if __name__ == "__main__":
    passport.main(__doc__, [sys.modules[__name__]])
