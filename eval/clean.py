"""Clean images: loss and accuracy as they are, and calibration, under stored and recomputed BatchNorm statistics.

Brier score: mean over images of the squared distance of probabilities from the one-hot label, 0 to 2 (Brier 1950). Expected calibration error:
mean over images of |accuracy - confidence| of their bin of confidence, 15 equal bins, top label (Guo et al. 2017, arXiv 1706.04599).
"""

import sys

import torch

from common.measuring import passport, summary

TITLE, SOURCE = "Clean images", "the original report; Guo et al. 2017, arXiv 1706.04599; Brier 1950"
UNITS, LEVELS, BATCHNORM = "none", [0.0], ["stored", "recomputed"]
BINS = 15


def calibration(probabilities, labels):
    """{name: number}: Brier score and expected calibration error of probabilities (N, K), each with its standard error over images."""
    count, (confidence, answer) = len(labels), probabilities.max(1)
    brier = (
        (probabilities - torch.nn.functional.one_hot(labels, probabilities.shape[1]))
        .square()
        .sum(1)
    )
    gap = torch.zeros(count, BINS, dtype=probabilities.dtype)
    gap[torch.arange(count), (confidence * BINS).ceil().long().clamp(1, BINS) - 1] = (
        answer == labels
    ).to(gap.dtype) - confidence
    ece = (torch.from_numpy(summary.shares(count, "images")).to(gap.dtype) @ gap).abs().sum(1)
    return {
        "brier": brier.mean().item(),
        "brier_se": brier.std().item() / count**0.5,
        "ece": ece[0].item(),
        "ece_se": ece[1:].std().item(),
    }


@torch.no_grad()
def measure(model, batches, generator):
    """{name: number} of `model` on the images of `batches()`."""
    logits, labels = zip(
        *((model(images).double().cpu(), labels.cpu()) for images, labels in batches())
    )
    return calibration(torch.cat(logits).softmax(1), torch.cat(labels))


if __name__ == "__main__":
    passport.main(__doc__, [sys.modules[__name__]])
