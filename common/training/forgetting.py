"""Forgetting: what finetuning costs on the task that the minimum was trained on.

The weights that were finetuned, with the head that the minimum had before, on the test images of
its own pack: loss and accuracy, with BatchNorm's statistics as finetuning left them and recomputed
over training images of that pack.
"""

from collections.abc import Iterator
from pathlib import Path

import torch

from common.images import packs
from common.networks import batchnorm, models
from common.training import loop
from common.training.run import Run

IMAGES = 2500  # at most: measured, and those over which BatchNorm's statistics are recomputed


class Source:
    """The task that a minimum was trained on, and a copy of the minimum with its own head."""

    def __init__(self, folder: Path, data: str, device: torch.device, images: int = IMAGES):
        self.network, metadata = models.load(folder / "weights.safetensors")
        self.network = self.network.to(device)
        self.pack = packs.load(data, device)
        if metadata["data"] != self.pack.fingerprint:
            raise SystemExit(
                f"--source {data}: {folder} was trained on other images; give its own pack"
            )
        self.test = self.pack.subset("test", images)
        self.train = self.pack.subset("train", images)
        self.head = f"{models.head(self.network)[0]}."
        self.before = None  # any run's first step: all start from the minimum

    def follow(
        self, run: Run, positions: Iterator[loop.Position], every_epoch: bool
    ) -> Iterator[loop.Position]:
        """Yields `positions`; measures before the first step and after the last, or every epoch."""
        for position in positions:
            if position.last and (every_epoch or position.epoch in (0, run.args.epochs)):
                if position.epoch == 0 and not self.before:
                    self.before = self.measure(run.model)
                numbers = self.measure(run.model) if position.epoch else self.before
                run.curves["source/epoch"].append(position.epoch)
                for name, value in numbers.items():
                    run.curves[f"source/{name}"].append(value)
            yield position

    def measure(self, model: torch.nn.Module) -> dict[str, float]:
        """Loss (nats) and accuracy with BatchNorm's statistics as they are, and recomputed."""
        state = model.state_dict()
        body = {name: value for name, value in state.items() if not name.startswith(self.head)}
        self.network.load_state_dict(body, strict=False)
        loss, accuracy = loop.evaluate(self.network, self.pack, self.test)
        numbers = {"loss": loss, "accuracy": accuracy}
        batchnorm.recompute(self.network, self.pack, self.train)
        loss, accuracy = loop.evaluate(self.network, self.pack, self.test)
        return numbers | {"loss_recomputed": loss, "accuracy_recomputed": accuracy}
