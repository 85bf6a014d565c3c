"""A pack: one HDF5 file with images, labels and fixed splits, resident on the device, where a batch is an index."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch

from common import files

SPLITS = ["train", "val", "test"]


@dataclass
class Pack:
    """images (N, H, W, 3) uint8 on the device (or memory-mapped from the disk), labels (N,) int64, split (N,) uint8."""

    images: torch.Tensor
    labels: torch.Tensor
    split: torch.Tensor
    classes: list
    image_size: int
    fingerprint: str
    device: torch.device
    resident: bool  # whether the images lie on the device: a batch is then made there alone

    def batch(self, index):
        """images (B, 3, H, W) float in [0, 1], channels_last, and labels (B,), both on the device, for `index` (B,)."""
        return self.decode(self.read(index)), self.labels[index.to(self.device)]

    def decode(self, pixels):
        """What `read` gave, as float images on the device."""
        return pixels.to(self.device, non_blocking=True).permute(0, 3, 1, 2).float().div_(255)

    def read(self, index):
        """The bytes (B, H, W, 3) of the images `index` (B,), where the images lie; from the disk, in memory that a GPU reads without waiting."""
        if self.resident:
            return self.images[index.to(self.device)]
        pixels = torch.empty(
            len(index),
            *self.images.shape[1:],
            dtype=torch.uint8,
            pin_memory=self.device.type == "cuda",
        )
        return torch.index_select(self.images, 0, index.cpu(), out=pixels)

    def ahead(self, indices):
        """Yields read(index) for each of `indices`; from the disk, the next is read meanwhile."""
        if self.resident:
            yield from map(self.read, indices)
            return
        with ThreadPoolExecutor(1) as reader:
            waiting = None
            for index in chain(indices, [None]):
                now, waiting = waiting, None if index is None else reader.submit(self.read, index)
                if now:
                    yield now.result()

    def batches(self, indices):
        """Yields batch(index) for each of `indices`, read a batch ahead."""
        for pixels, index in zip(self.ahead(indices), indices):
            yield self.decode(pixels), self.labels[index.to(self.device)]

    def indices(self, split):
        """Where the images of a split ("train", "val", "test") are, in the pack's order: (n,) int64."""
        return (self.split == SPLITS.index(split)).nonzero().flatten()

    def subset(self, split, count, seed=0):
        """At most `count` images of a split, stratified by class and fixed by seed, in the pack's order: (n,) int64."""
        index = self.indices(split)
        if len(index) <= count:
            return index
        return index[stratify(self.labels[index.to(self.device)].cpu().numpy(), count, seed)]


class Held:
    """A batch at addresses that stay: `fill` between the steps, `batch` within one, which a CUDA graph may record."""

    def __init__(self, pack, size):
        self.pack, self.at = pack, torch.zeros(size, dtype=torch.int64, device=pack.device)
        self.pixels = (
            None
            if pack.resident
            else torch.empty(size, *pack.images.shape[1:], dtype=torch.uint8, device=pack.device)
        )

    def fill(self, indices):
        """A generator: each `next` puts the batch of the next of `indices`, a list, in place."""
        for index, pixels in zip(
            indices, indices if self.pack.resident else self.pack.ahead(indices)
        ):
            self.at.copy_(index, non_blocking=True)
            if not self.pack.resident:
                self.pixels.copy_(pixels, non_blocking=True)
            yield

    def batch(self):
        """images and labels, as Pack.batch gives them."""
        if self.pack.resident:
            return self.pack.batch(self.at)
        return self.pack.decode(self.pixels), self.pack.labels[self.at]


def stratify(labels, count, seed):
    """`count` positions of `labels` (N,), classes as equal as they can be, drawn by seed: (count,) int64, ascending."""
    rng = np.random.default_rng([seed, len(labels), count])
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    sorted_labels = labels[order]
    rank = np.arange(len(labels)) - np.searchsorted(
        sorted_labels, sorted_labels
    )  # 0, 1, 2, … within each class
    return torch.from_numpy(np.sort(order[np.argsort(rank, kind="stable")[:count]]))


def load(path, device, resident=None):
    """Opens a pack. It sits whole on the device where there is room (or as `resident` says), else batches are read from the mapped file.

    SystemExit with one line for anything that is not a whole pack: its sha256 is compared first.
    """
    with files.read(path) as file:
        if file.attrs.get("kind") != "pack":
            raise SystemExit(
                f"{path}: not a pack of images; make one with python -m common.images.prepare"
            )
        stored = file["images"]
        resident = stored.nbytes <= room(device) if resident is None else resident
        mapped = torch.from_numpy(
            np.memmap(path, np.uint8, "c", stored.id.get_offset(), stored.shape)
        )  # processes on a CPU share it
        return Pack(
            mapped.to(device) if resident else mapped,
            torch.from_numpy(file["labels"][:]).to(device),
            torch.from_numpy(file["split"][:]),
            json.loads(file.attrs["classes"]),
            int(file.attrs["image_size"]),
            file.attrs["fingerprint"],
            device,
            resident,
        )


def room(device):
    """Bytes that a pack may take on the device: half of what is free on a GPU; on a CPU, half of the machine's memory."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] / 2
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2
