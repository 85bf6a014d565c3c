"""A pack: one HDF5 file with images, labels and fixed splits, resident on the device, where a batch is an index."""
import json
import os
from dataclasses import dataclass

import numpy as np
import torch

from common import device as devices
from common import files

SPLITS = ["train", "val", "test"]


@dataclass
class Pack:
    """images (N, H, W, 3) uint8 on the device (or memory-mapped on the host), labels (N,) int64, split (N,) uint8."""
    images: torch.Tensor
    labels: torch.Tensor
    split: torch.Tensor
    classes: list
    image_size: int
    fingerprint: str
    device: torch.device

    @property
    def resident(self):
        """Whether the images lie on the device: a batch is then made there alone."""
        return self.images.device.type == self.device.type

    def batch(self, index):
        """images (B, 3, H, W) float in [0, 1], channels_last, and labels (B,), both on the device, for `index` (B,)."""
        at = index.to(self.images.device)
        images = self.images[at].to(self.device, non_blocking=True).permute(0, 3, 1, 2).float().div_(255)
        return images, self.labels[index.to(self.device)]

    def indices(self, split):
        """Where the images of a split ("train", "val", "test") are, in the pack's order: (n,) int64."""
        return (self.split == SPLITS.index(split)).nonzero().flatten()

    def subset(self, split, count, seed=0):
        """At most `count` images of a split, stratified by class and fixed by seed, in the pack's order: (n,) int64."""
        index = self.indices(split)
        if len(index) <= count:
            return index
        return index[stratify(self.labels[index.to(self.device)].cpu().numpy(), count, seed)]


def stratify(labels, count, seed):
    """`count` positions of `labels` (N,), classes as equal as they can be, drawn by seed: (count,) int64, ascending."""
    rng = np.random.default_rng([seed, len(labels), count])
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    sorted_labels = labels[order]
    rank = np.arange(len(labels)) - np.searchsorted(sorted_labels, sorted_labels)  # 0, 1, 2, … within each class
    return torch.from_numpy(np.sort(order[np.argsort(rank, kind="stable")[:count]]))


def load(path, device):
    """Opens a pack. It sits whole on the device where there is room, else a batch comes from the mapped file.

    SystemExit with one line for anything that is not a whole pack: its sha256 is compared first.
    """
    with files.read(path) as file:
        if file.attrs.get("kind") != "pack":
            raise SystemExit(f"{path}: not a pack of images; make one with python -m common.prepare")
        stored = file["images"]
        if stored.nbytes <= room(device):
            images = torch.from_numpy(stored[:]).to(device)
        else:
            images = torch.from_numpy(np.memmap(path, np.uint8, "c", stored.id.get_offset(), stored.shape))
        return Pack(images, torch.from_numpy(file["labels"][:]).to(device), torch.from_numpy(file["split"][:]),
                    json.loads(file.attrs["classes"]), int(file.attrs["image_size"]), file.attrs["fingerprint"], device)


def room(device):
    """Bytes that a pack may take on the device: half of what is free on a GPU; on a CPU, half of the machine's memory."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] / 2
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2


def order(count, *seed):
    """A permutation of 0 … count-1 from `seed`, the same on every device."""
    return torch.randperm(count, generator=devices.generator("cpu", *seed))
