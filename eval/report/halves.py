"""Halves of what was measured, read while a passport is open: with them the report says how much
of a measure is noise, and need not keep what was measured of each image.
"""

import h5py
import numpy as np

# What is kept of each image, and the curve that it is a part of.
CURVES = {"loss_by_image": "loss", "correct_by_image": "accuracy"}
IMAGES = ("even images", "odd images")
REPEATS = ("even repeats", "odd repeats")
HALVES = IMAGES + REPEATS


def of(file: h5py.File) -> dict[str, np.ndarray]:
    """{GROUP/halves/SPLIT/loss: (L, 4)}, and accuracy, of an open passport with L levels.

    In the order of HALVES: means over the images of even and of odd place, then over the random
    draws of even and of odd place, NaN where there is one draw. {} of a file that is no passport.
    """
    result = {}
    for name, group in file.items():
        for split in ("train", "test"):
            if "measurement" in group.attrs and split in group:
                for dataset, curve in CURVES.items():
                    if dataset in group[split]:
                        images, repeats = group[split][dataset][()], group[split][curve][()]
                        if curve == "accuracy":  # of each image the sum over repeats was kept
                            images = images / repeats.shape[1]
                        result[f"{name}/halves/{split}/{curve}"] = halves(images, repeats)
    return result


def halves(images: np.ndarray, repeats: np.ndarray) -> np.ndarray:
    """Four means (L, 4) of what is known of each image (L, N) and of each repeat (L, R)."""
    columns = [images[:, k::2].mean(1) for k in (0, 1)]
    several = repeats.shape[1] > 1
    columns += [repeats[:, k::2].mean(1) if several else repeats[:, 0] * np.nan for k in (0, 1)]
    return np.stack(columns, 1).astype(float)
