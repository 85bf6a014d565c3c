"""Clean images: loss and accuracy as they are, and calibration, under stored and recomputed
BatchNorm statistics.

Brier score: mean over images of the squared distance of probabilities from the one-hot label, 0 to
2 (Brier 1950). Expected calibration error: mean over images of |accuracy - confidence| of their bin
of confidence, 15 equal bins, top label (Guo et al. 2017, arXiv 1706.04599).
"""

import math
import sys

import torch
from torch.nn.functional import one_hot

from common.measuring import passport, summary

TITLE = "Clean images"
SOURCE = "the original report; Guo et al. 2017, arXiv 1706.04599; Brier 1950"
UNITS = "none"
LEVELS = [0.0]
BATCHNORM = ["stored", "recomputed"]
BINS = 15


@torch.no_grad()
def measure(model, batches, generator):
    """{name: number} of `model` on the images of `batches()`."""
    logits, labels = [], []
    for batch_images, batch_labels in batches():
        logits.append(model(batch_images).double().cpu())
        labels.append(batch_labels.cpu())
    return calibration(torch.cat(logits).softmax(1), torch.cat(labels))


def calibration(probabilities, labels):
    """Brier score and expected calibration error of probabilities (N, K), each with its standard
    error over images.
    """
    count, classes = probabilities.shape
    brier = (probabilities - one_hot(labels, classes)).square().sum(1)
    confidence, answer = probabilities.max(1)
    correct = (answer == labels).to(probabilities.dtype)
    in_bin = (confidence * BINS).ceil().long().clamp(1, BINS) - 1  # a bin holds its upper edge
    gap = torch.zeros(count, BINS, dtype=probabilities.dtype)
    gap[torch.arange(count), in_bin] = correct - confidence
    # The mean over images first, then over their resamples (1 + RESAMPLES,).
    images = torch.from_numpy(summary.bootstrap_weights(count, "images")).to(gap.dtype)
    ece = (images @ gap).abs().sum(1)
    return {
        "brier": brier.mean().item(),
        "brier_se": brier.std().item() / count**0.5 if count > 1 else math.nan,
        "ece": ece[0].item(),
        "ece_se": ece[1:].std().item(),
    }


if __name__ == "__main__":
    passport.main(__doc__, [sys.modules[__name__]])
