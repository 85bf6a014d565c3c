"""Curvature of the loss: top eigenvalue (power iteration) and trace (Hutchinson's estimator) of the
Hessian, all parameters, eval mode.

Yao et al. 2020, arXiv 1912.07145. Unlike local energy it depends on the scale of weights that
BatchNorm makes irrelevant. The eigenvalue is the largest in magnitude; its residual
|Hv - eigenvalue·v| bounds what more iterations could still change. Standard errors: of the
eigenvalue over images, its direction held fixed; of the trace over random vectors and images.
"""

import math
import sys

import torch
from torch.nn.functional import cross_entropy

from common import cli
from common.measuring import passport, summary
from common.networks import second_derivatives

TITLE = "Hessian"
SOURCE = "Yao et al. 2020, arXiv 1912.07145"
CHUNK = 50  # images whose graph of second derivatives is in memory at once
TOLERANCE = 1e-3
OPTIONS = {
    "images": (cli.count, 1000, "images of each split, drawn at random"),
    "iterations": (
        cli.count,
        100,
        "of the power iteration, at most; it stops when the eigenvalue changes by less than "
        f"{TOLERANCE:g} of itself",
    ),
    "vectors": (cli.count, 50, "random vectors of +1 and -1 for the trace"),
}


def measure(model, batches, generator, images, iterations, vectors):
    """{name: number} of `model`."""
    all_images, all_labels = map(torch.cat, zip(*batches()))
    drawn = torch.randperm(len(all_labels), generator=generator)[:images].to(all_labels.device)
    chunks = [(all_images[index], all_labels[index]) for index in drawn.split(CHUNK)]
    parameters = [value.requires_grad_() for value in model.parameters()]
    eigenvalue, residual, forms = power_iteration(model, parameters, chunks, generator, iterations)
    rows = []  # (vectors, chunks)
    for _ in range(vectors):
        signs = [
            (torch.randint(0, 2, value.shape, generator=generator) * 2 - 1).to(value)
            for value in parameters
        ]
        rows.append(product(model, parameters, chunks, signs)[1])
    model.requires_grad_(False)
    trace, trace_error = summary.two_way_mean(rows, [len(labels) for _, labels in chunks])
    return {
        "eigenvalue": eigenvalue,
        "eigenvalue_se": summary.standard_error(forms),
        "eigenvalue_residual": residual,
        "trace": trace,
        "trace_se": trace_error,
    }


def power_iteration(model, parameters, chunks, generator, iterations):
    """(top eigenvalue, its residual, its quadratic form on each chunk), from a random vector."""
    vector = [torch.randn(value.shape, generator=generator).to(value) for value in parameters]
    eigenvalue = float("inf")
    for _ in range(iterations):
        length = dot(vector, vector) ** 0.5
        vector = torch._foreach_div(vector, max(length, 1e-30))
        image, forms = product(model, parameters, chunks, vector)
        before, eigenvalue = eigenvalue, dot(vector, image)
        residual = max(dot(image, image) - eigenvalue**2, 0) ** 0.5
        settled = abs(eigenvalue - before) <= TOLERANCE * abs(eigenvalue)
        if settled or not math.isfinite(eigenvalue):
            break
        vector = image
    return eigenvalue, residual, forms


def product(model, parameters, chunks, vector):
    """(H·v, [v·H_c·v]) for `vector` v, a tensor for each of `parameters`.

    H is the Hessian of the mean loss over all `chunks` [(images, labels)], H_c that of one chunk.
    """
    total = [torch.zeros_like(value) for value in parameters]
    count = sum(len(labels) for _, labels in chunks)
    forms = []
    for images, labels in chunks:
        with second_derivatives.available(model):
            loss = cross_entropy(model(images), labels)
            gradient = torch.autograd.grad(loss, parameters, create_graph=True)
            chunk_product = torch.autograd.grad(gradient, parameters, vector)
        torch._foreach_add_(total, chunk_product, alpha=len(labels) / count)
        forms.append(dot(vector, chunk_product))
    return total, forms


def dot(a, b):
    """Inner product of two lists of tensors, summed in float64."""
    return sum((x * y).sum(dtype=torch.float64).item() for x, y in zip(a, b))


if __name__ == "__main__":
    passport.main(__doc__, [sys.modules[__name__]])
