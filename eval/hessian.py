"""Curvature of the loss: top eigenvalue (power iteration) and trace (Hutchinson's estimator) of the Hessian, all parameters, eval mode.

Yao et al. 2020, arXiv 1912.07145. Unlike local energy it depends on the scale of weights that BatchNorm makes irrelevant. Standard errors: of the
eigenvalue over images, its direction held fixed; of the trace over random vectors and images. The eigenvalue is the largest in magnitude;
its residual |Hv - eigenvalue·v| bounds what more iterations could still change.
"""

import sys

import torch
from torch.nn.functional import cross_entropy

from common import cli
from common.measuring import passport, summary
from common.training import processes

TITLE, SOURCE = "Hessian", "Yao et al. 2020, arXiv 1912.07145"
CHUNK, TOLERANCE = 50, 1e-3
OPTIONS = {
    "images": (cli.count, 1000, "images of each split, drawn at random"),
    "iterations": (
        cli.count,
        100,
        f"of the power iteration, at most; it stops when the eigenvalue changes by less than {TOLERANCE:g} of itself",
    ),
    "vectors": (cli.count, 50, "random vectors of +1 and -1 for the trace"),
}


def dot(a, b):
    """Inner product of two lists of tensors, summed in float64."""
    return sum((x * y).sum(dtype=torch.float64).item() for x, y in zip(a, b))


def product(model, parameters, chunks, vector):
    """(H·v, [v·H_c·v]): the Hessian of the mean loss over all `chunks` [(images, labels)] times `vector`, and each chunk's own quadratic form."""
    total, count = (
        [torch.zeros_like(value) for value in parameters],
        sum(len(labels) for _, labels in chunks),
    )

    def form(chunk):
        images, labels = chunk
        gradient = torch.autograd.grad(
            cross_entropy(model(images), labels), parameters, create_graph=True
        )
        part = torch.autograd.grad(gradient, parameters, vector)
        torch._foreach_add_(total, part, alpha=len(labels) / count)
        return dot(vector, part)

    forms = processes.spread(form, chunks, vector[0].device)
    return [processes.total(value) for value in total], forms


def measure(model, batches, generator, images, iterations, vectors):
    """{name: number} of `model`."""
    everything, answers = map(torch.cat, zip(*batches()))
    pick = torch.randperm(len(answers), generator=generator)[:images].to(answers.device)
    chunks = [(everything[at], answers[at]) for at in pick.split(CHUNK)]
    parameters = [value.requires_grad_() for value in model.parameters()]

    def drawn(draw):
        return [draw(value.shape).to(value) for value in parameters]

    vector = drawn(lambda shape: torch.randn(shape, generator=generator))
    value = float("inf")
    for _ in range(iterations):
        length = dot(vector, vector) ** 0.5
        vector = torch._foreach_div(vector, max(length, 1e-30))
        image, forms = product(model, parameters, chunks, vector)
        before, value = value, dot(vector, image)
        residual = max(dot(image, image) - value**2, 0) ** 0.5
        if abs(value - before) <= TOLERANCE * abs(value):
            break
        vector = image

    rows = []
    for _ in range(vectors):
        signs = drawn(lambda shape: torch.randint(0, 2, shape, generator=generator) * 2 - 1)
        rows.append(product(model, parameters, chunks, signs)[1])
    model.requires_grad_(False)
    trace, trace_se = summary.crossed(rows, [len(labels) for _, labels in chunks])
    return {
        "eigenvalue": value,
        "eigenvalue_se": summary.error(forms),
        "eigenvalue_residual": residual,
        "trace": trace,
        "trace_se": trace_se,
    }


if __name__ == "__main__":
    passport.main(__doc__, [sys.modules[__name__]])
