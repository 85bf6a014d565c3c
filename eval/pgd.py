"""PGD: FGSM's step repeated within |x' - x| <= epsilon, from a random start (Madry et al. 2018,
arXiv 1706.06083), 10 and 20 steps.

Beside FGSM, because a network whose gradients are masked at the image resists one step and not
many. Steps of epsilon/4, Madry's ratio on CIFAR-10.
"""

import sys

import torch
from torch.nn.functional import cross_entropy

from common import cli
from common.measuring import passport

TITLE = "Adversarial attack (PGD)"
SOURCE = "Madry et al. 2018, arXiv 1706.06083"
LEVEL = "epsilon"
UNITS = "change of a pixel, images in [0, 1]"
LEVELS = [0.0, 0.001, 0.002, 0.004, 0.008, 0.016, 0.03]
LEVEL_TYPE = cli.fraction
REPEATS = 1
FOLLOWS_GRADIENT = True
STEP = 0.25  # fraction of epsilon


def variants(model):
    """{suffix: keywords of perturb}."""
    return {"10": {"steps": 10}, "20": {"steps": 20}}


def perturb(images, labels, levels, generator, model, steps, random_start=True):
    """Yields images (N, 3, H, W) in [0, 1]; gradients in the images' own precision."""
    start = 0
    if random_start:
        start = (2 * torch.rand(images.shape, generator=generator) - 1).to(images)
    for epsilon in levels:
        attacked = (images + epsilon * start).clamp(0, 1)
        for _ in range(steps):
            with torch.enable_grad():
                attacked.requires_grad_()
                loss = cross_entropy(model(attacked), labels, reduction="sum")
                (gradient,) = torch.autograd.grad(loss, attacked)
            moved = attacked.detach() + STEP * epsilon * gradient.sign()
            attacked = moved.clamp(images - epsilon, images + epsilon).clamp(0, 1)
        yield attacked


if __name__ == "__main__":
    passport.main(__doc__, [sys.modules[__name__]])
