"""Where every random draw comes from: a seed derived from words and numbers."""

import torch

from common import files


def derive(*parts) -> int:
    """A 63-bit seed from any JSON-able parts: the same parts give the same seed everywhere."""
    return int(files.sha256(*parts)[:16], 16) >> 1


def generator(device: torch.device | str, *parts) -> torch.Generator:
    """A torch.Generator on `device`, seeded from `parts`."""
    return torch.Generator(device).manual_seed(derive(*parts))


def permutation(count: int, *parts) -> torch.Tensor:
    """A permutation (count,) of 0 … count-1 from `parts`, the same on every device."""
    return torch.randperm(count, generator=generator("cpu", *parts))
