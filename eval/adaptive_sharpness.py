"""Adaptive sharpness: how much the loss rises within |delta| <= rho·|w|, elementwise, on average
and at worst (Andriushchenko et al. 2023, arXiv 2302.07011).

Average: delta = rho·|w|·z, z ~ N(0, 1). Worst: Auto-PGD (Croce and Hein 2020, arXiv 2003.01690)
on each batch of 128 by itself, from delta = 0. All parameters, eval mode, logits not normalised.
Both are blind to a rescaling of filters that BatchNorm undoes. Standard errors are over batches.
"""

import math
import sys
from functools import partial

import torch
from torch.nn.functional import cross_entropy

from common import cli
from common.measuring import passport, summary
from common.networks import weights

TITLE = "Adaptive sharpness"
SOURCE = "Andriushchenko et al. 2023, arXiv 2302.07011"
BATCH = 128
MOMENTUM = 0.75
OPTIONS = {
    "images": (cli.count, 1024, f"images of each split, drawn at random, in batches of {BATCH}"),
    "average": (cli.amount, 0.1, "rho of the average"),
    "draws": (cli.count, 20, "random draws of the average"),
    "worst": (cli.amount, 0.002, "rho of the worst case"),
    "steps": (cli.count, 20, "steps of Auto-PGD"),
}


def measure(model, batches, generator, images, average, draws, worst, steps):
    """{name: number} of `model`: rises of the loss in nats per image."""
    all_images, all_labels = map(torch.cat, zip(*batches()))
    drawn = torch.randperm(len(all_labels), generator=generator)[:images].to(all_labels.device)
    batches = [(all_images[index], all_labels[index]) for index in drawn.split(BATCH)]
    sizes = [len(labels) for _, labels in batches]
    parameters = [value.requires_grad_() for value in model.parameters()]
    with torch.no_grad():
        clean = losses(model, batches)
        average_rises = []  # (draws, batches)
        for _ in range(draws):
            with weights.restored_after(model):
                for value in parameters:
                    value.copy_(next(weights.multiplicative_noise(value, [average], generator)))
                average_rises.append(differences(losses(model, batches), clean))
    highest = []
    for batch in batches:
        loss = partial(loss_on, model, *batch)
        with weights.restored_after(model):
            highest.append(auto_pgd(loss, parameters, worst, steps))
    worst_rises = [differences(highest, clean)]
    model.requires_grad_(False)
    average_mean, average_error = summary.two_way_mean(average_rises, sizes)
    worst_mean, worst_error = summary.two_way_mean(worst_rises, sizes)
    return {
        "average": average_mean,
        "average_se": average_error,
        "worst": worst_mean,
        "worst_se": worst_error,
    }


def loss_on(model, images, labels):
    """Mean loss of `model`, 0-d."""
    return cross_entropy(model(images), labels)


def losses(model, batches):
    """Mean loss on each batch, numbers."""
    return [loss_on(model, *batch).item() for batch in batches]


def differences(after, before):
    """after - before, number by number."""
    return [a - b for a, b in zip(after, before, strict=True)]


def auto_pgd(loss, parameters, rho, steps):
    """The largest `loss()` met with `parameters` within rho·|w| of where they are.

    They are left where the search ended.
    """
    origin = [value.detach().clone() for value in parameters]
    # Where the search is, in units of rho·|w|: -1 to 1.
    unit = previous = [torch.zeros_like(value) for value in origin]
    step = 2.0
    best, best_point = -float("inf"), None
    rises, last_checkpoint, halved = 0, 0, False
    may_halve = checkpoints(steps)
    for k in range(steps + 1):
        with torch.no_grad():
            for value, start, offset in zip(parameters, origin, unit):
                value.copy_(start + rho * start.abs() * offset)
        current = loss()
        gradient = torch.autograd.grad(current, parameters)
        if k == 0 and not all(value.isfinite().all() for value in (current, *gradient)):
            return math.nan  # the sign of what is no number is 0: the search would stand still
        if current.item() > best:
            best, best_point, rises = current.item(), (unit, gradient), rises + 1
        if k in may_halve:
            # Too few rises since the last checkpoint, or none at all with an unchanged step: back
            # to the best point, with half the step.
            halved = rises < 0.75 * (k - last_checkpoint) or (not halved and rises == 0)
            if halved:
                step, (unit, gradient) = step / 2, best_point
                previous = unit
            last_checkpoint, rises = k, 0
        momentum = MOMENTUM if k else 1.0  # weight of the new step beside the last one
        unit, previous = next_point(unit, previous, gradient, step, momentum), unit
    return best


def next_point(unit, previous, gradient, step, momentum):
    """The next point of Auto-PGD: a step along the gradient's sign, and on along the last step."""
    result = []
    for here, before, slope in zip(unit, previous, gradient):
        ahead = (here + step * slope.sign()).clamp(-1, 1)
        blended = here + momentum * (ahead - here) + (1 - momentum) * (here - before)
        result.append(blended.clamp(-1, 1))
    return result


def checkpoints(steps):
    """Steps after which Auto-PGD may halve its step.

    In percent of all: at 22, then each time after 3 less than before, at least 6.
    """
    places, width = [22], 22
    while places[-1] < 100:
        width = max(width - 3, 6)
        places.append(places[-1] + width)
    return {math.ceil(place * steps / 100) for place in places}


if __name__ == "__main__":
    passport.main(__doc__, [sys.modules[__name__]])
