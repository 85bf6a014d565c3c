"""Adaptive sharpness: how much the loss rises within |delta| <= rho·|w|, elementwise, on average and at worst (Andriushchenko et al. 2023, arXiv 2302.07011).

Average: delta = rho·|w|·z, z ~ N(0, 1). Worst: Auto-PGD (Croce and Hein 2020, arXiv 2003.01690) on each batch of 128 by itself, from delta = 0. All
parameters, eval mode, logits not normalised. Both are blind to a rescaling of filters that BatchNorm undoes. Standard errors are over batches.
"""

import sys

import torch
from torch.nn.functional import cross_entropy

from common import cli
from common.measuring import passport, summary
from common.networks import weights
from common.training import processes

TITLE, SOURCE = "Adaptive sharpness", "Andriushchenko et al. 2023, arXiv 2302.07011"
BATCH, MOMENTUM = 128, 0.75
OPTIONS = {
    "images": (cli.count, 1024, f"images of each split, drawn at random, in batches of {BATCH}"),
    "average": (cli.amount, 0.1, "rho of the average"),
    "draws": (cli.count, 20, "random draws of the average"),
    "worst": (cli.amount, 0.002, "rho of the worst case"),
    "steps": (cli.count, 20, "steps of Auto-PGD"),
}


def checkpoints(steps):
    """Steps after which Auto-PGD may halve its step: at 22 % of all, then after 3 % less each time, at least 6 %."""
    places, width = [22], 22
    while places[-1] < 100:
        width = max(width - 3, 6)
        places.append(places[-1] + width)
    return {-(-place * steps // 100) for place in places}


def auto_pgd(loss, parameters, rho, steps):
    """The largest `loss()` found with `parameters` within rho·|w| of where they are; they are left where it ended."""
    origin = [value.detach().clone() for value in parameters]
    unit = last = [torch.zeros_like(value) for value in origin]  # delta / (rho·|w|), in [-1, 1]
    step, best, rises, since, halved, halve = 2.0, -float("inf"), 0, 0, False, checkpoints(steps)
    for k in range(steps + 1):
        with torch.no_grad():
            for value, start, part in zip(parameters, origin, unit):
                value.copy_(start + rho * start.abs() * part)
        here = loss()
        gradient = torch.autograd.grad(here, parameters)
        if here.item() > best:
            best, at_best, rises = here.item(), (unit, gradient), rises + 1
        if k in halve:
            # Too few rises since the last checkpoint, or none at all with an unchanged step: back to the best point, with half the step.
            halved = rises < 0.75 * (k - since) or not halved and rises == 0
            if halved:
                step, (unit, gradient) = step / 2, at_best
                last = unit
            since, rises = k, 0
        ahead = [(part + step * slope.sign()).clamp(-1, 1) for part, slope in zip(unit, gradient)]
        blend = MOMENTUM if k else 1.0
        unit, last = (
            [
                (part + blend * (to - part) + (1 - blend) * (part - old)).clamp(-1, 1)
                for part, to, old in zip(unit, ahead, last)
            ],
            unit,
        )
    return best


def measure(model, batches, generator, images, average, draws, worst, steps):
    """{name: number} of `model`: rises of the loss in nats per image."""
    everything, answers = map(torch.cat, zip(*batches()))
    pick = torch.randperm(len(answers), generator=generator)[:images].to(answers.device)
    batches = [(everything[at], answers[at]) for at in pick.split(BATCH)]
    parameters = [value.requires_grad_() for value in model.parameters()]
    losses = [lambda batch=batch: cross_entropy(model(batch[0]), batch[1]) for batch in batches]
    with torch.no_grad():
        clean, table = processes.spread(lambda loss: loss().item(), losses, answers.device), []
        for _ in range(draws):
            with weights.moved(model):
                for value in parameters:
                    value.copy_(next(weights.multiplicative_noise(value, [average], generator)))
                table.append(
                    [
                        after - before
                        for after, before in zip(
                            processes.spread(lambda loss: loss().item(), losses, answers.device),
                            clean,
                        )
                    ]
                )

    def highest(loss):
        with weights.moved(model):
            return auto_pgd(loss, parameters, worst, steps)

    rises = [
        after - before
        for after, before in zip(processes.spread(highest, losses, answers.device), clean)
    ]
    model.requires_grad_(False)
    sizes = [len(answers) for _, answers in batches]
    found = summary.crossed(table, sizes), summary.crossed([rises], sizes)
    return {
        f"{name}{suffix}": value
        for name, both in zip(("average", "worst"), found)
        for suffix, value in zip(("", "_se"), both)
    }


if __name__ == "__main__":
    passport.main(__doc__, [sys.modules[__name__]])
