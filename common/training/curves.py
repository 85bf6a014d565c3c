"""Curves by epoch: the running loss and accuracy of an epoch, and how curves are written."""

import numpy as np
import torch

from common import files
from common.training import processes
from common.training.run import Run


class Running:
    """Mean loss and accuracy over the steps of an epoch, as presented and in train mode.

    Kept on the device: a step never waits for a number.
    """

    def __init__(self, run: Run):
        self.share = run.share
        self.sums = torch.zeros(2, dtype=torch.float64, device=run.device)  # loss, accuracy
        self.finite_steps = torch.zeros(1, dtype=torch.int64, device=run.device)

    def reset(self):
        """A new epoch begins."""
        self.sums.zero_()
        self.finite_steps.zero_()

    def add(self, loss, logits, labels):
        """Takes in one step: the 0-d loss, logits (N, classes), labels (N,)."""
        accuracy = (logits.detach().argmax(1) == labels).float().mean()
        self.sums.add_(torch.stack([loss.detach(), accuracy]), alpha=self.share)
        # Once the sum is not finite, it never is again: this counts the steps before that.
        self.finite_steps.add_(self.sums[0].isfinite())

    def result(self, steps: int) -> tuple[float, float, int]:
        """(mean loss, mean accuracy, steps before the first that was not finite), all processes."""
        processes.total(self.sums)
        processes.least(self.finite_steps)
        loss, accuracy = (self.sums / steps).tolist()
        return loss, accuracy, self.finite_steps.item()


def write(file, curves: dict[str, list]):
    """Curves by epoch as datasets (…, E) along the dimension scale `epoch` (E,)."""
    epoch = files.scale(file, "epoch", curves["epoch"], "passes over the training images")
    for name, values in curves.items():
        if name != "epoch":
            values = np.asarray(values)
            # What is measured at some epochs alone has no such axis.
            axis = epoch if values.shape[-1] == len(epoch) else None
            files.array(file, name, values, files.units(name), *[None] * (values.ndim - 1), axis)
