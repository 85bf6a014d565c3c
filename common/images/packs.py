"""A pack: one HDF5 file with images, labels and fixed splits, of which a batch is an index."""

import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common import files

SPLITS = ["train", "val", "test"]  # a pack's `split` holds positions in this list


@dataclass
class Pack:
    """Images on the device where there is room, else mapped from the file and read by the batch."""

    images: Tensor  # (N, H, W, 3) uint8, on the device if `resident`
    labels: Tensor  # (N,) int64, on the device
    split: Tensor  # (N,) uint8, positions in SPLITS
    classes: list[str]
    image_size: int  # H = W, in pixels
    fingerprint: str  # sha256 of images, labels and split
    device: torch.device
    resident: bool

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, 3, H, W) float in [0, 1], channels_last, and labels (B,), for `index` (B,).

        Both lie on the device.
        """
        return self.decode(self.read(index)), self.labels[index.to(self.device)]

    def decode(self, pixels: Tensor) -> Tensor:
        """Float images (B, 3, H, W) on the device from what `read` gave."""
        return pixels.to(self.device, non_blocking=True).permute(0, 3, 1, 2).float().div_(255)

    def read(self, index: Tensor) -> Tensor:
        """The bytes (B, H, W, 3) of the images `index` (B,).

        They lie on the device if the pack does, else in memory that a GPU reads without waiting.
        """
        if self.resident:
            return self.images[index.to(self.device)]
        pixels = torch.empty(
            len(index),
            *self.images.shape[1:],
            dtype=torch.uint8,
            pin_memory=self.device.type == "cuda",
        )
        return torch.index_select(self.images, 0, index.cpu(), out=pixels)

    def ahead(self, indices: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yields read(index) for each of `indices`; from the file, the next is read meanwhile."""
        if self.resident:
            yield from map(self.read, indices)
            return
        with ThreadPoolExecutor(1) as reader:
            next_batch = None
            for index in chain(indices, [None]):
                batch = next_batch
                next_batch = None if index is None else reader.submit(self.read, index)
                if batch:
                    yield batch.result()

    def batches(self, indices: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields batch(index) for each of `indices`, read a batch ahead."""
        for pixels, index in zip(self.ahead(indices), indices):
            yield self.decode(pixels), self.labels[index.to(self.device)]

    def indices(self, split: str) -> Tensor:
        """Positions (n,) int64 of a split's images, ascending."""
        return (self.split == SPLITS.index(split)).nonzero().flatten()

    def subset(self, split: str, count: int, seed: int = 0) -> Tensor:
        """Positions (n,) int64 of at most `count` images of a split, ascending.

        They are stratified by class and fixed by the seed.
        """
        index = self.indices(split)
        if len(index) <= count:
            return index
        return index[stratify(self.labels[index.to(self.device)].cpu().numpy(), count, seed)]


def stratify(labels: np.ndarray, count: int, seed: int) -> Tensor:
    """`count` positions of `labels` (N,), ascending: (count,) int64.

    Drawn by seed, and from the classes in numbers as equal as they can be.
    """
    rng = np.random.default_rng([seed, len(labels), count])
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    sorted_labels = labels[order]
    first_of_class = np.searchsorted(sorted_labels, sorted_labels)
    rank = np.arange(len(labels)) - first_of_class  # 0, 1, 2, … within each class
    return torch.from_numpy(np.sort(order[np.argsort(rank, kind="stable")[:count]]))


def load(path: str | Path, device: torch.device, resident: bool | None = None) -> Pack:
    """Opens a pack. Its images lie on the device where there is room, or as `resident` says.

    SystemExit with one line for anything that is not a whole pack: its sha256 is compared first.
    """
    with files.read_pack(path) as file:
        stored = file["images"]
        if resident is None:
            resident = stored.nbytes <= room(device)
        # Copy on write ("c"): processes on a CPU share the pages, and torch may have the array.
        mapped = np.memmap(path, np.uint8, "c", stored.id.get_offset(), stored.shape)
        images = torch.from_numpy(mapped)
        return Pack(
            images=images.to(device) if resident else images,
            labels=torch.from_numpy(file["labels"][:]).to(device),
            split=torch.from_numpy(file["split"][:]),
            classes=json.loads(file.attrs["classes"]),
            image_size=int(file.attrs["image_size"]),
            fingerprint=file.attrs["fingerprint"],
            device=device,
            resident=resident,
        )


def demand_same(path: str | Path, pack: Pack):
    """SystemExit with one line where another pack than `pack`, which was loaded from `path`, lies
    there by now: what is made from the old one would be taken for the new one's.
    """
    if not Path(path).exists():
        return
    with files.read_pack(path, check=False) as file:
        if file.attrs["fingerprint"] != pack.fingerprint:
            raise SystemExit(
                f"{path}: other images lie there now than this run began with; run make again (or "
                "this command): it starts over with them"
            )


def room(device: torch.device) -> float:
    """Bytes that a pack may take: half of a GPU's free memory, or half of the machine's memory."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] / 2
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2
