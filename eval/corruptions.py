"""Common corruptions at any resolution, severities 1 to 5 (Hendrycks and Dietterich 2019,
arXiv 1903.12261), those that torchvision and Pillow can make.

Parameters are the published ones of CIFAR-10-C (32 px), Tiny-ImageNet-C (64 px) and ImageNet-C
(224 px), linear between them in log2 of the image's side and between severities. Elastic is our own
calibration: the published one mixes displacements with an affine map and does not ascend. Each
corruption stands as one repeat: accuracy and its interval are over corruptions. Nine of the
fifteen; gaussian_noise is a measurement of its own.
"""

import io
import sys

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import interpolate
from torchvision.transforms.v2 import functional

from common import cli
from common.measuring import passport

TITLE = "Common corruptions"
SOURCE = "Hendrycks and Dietterich 2019, arXiv 1903.12261"
LEVEL = "severity"
UNITS = "as published, 0 none to 5"
LEVELS = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
LEVEL_TYPE = cli.severity
SIDES = [32, 64, 224]  # px, of the rows below
PUBLISHED = {  # at severities 1 … 5
    # photons a pixel
    "shot_noise": [
        [500, 250, 100, 75, 50],
        [250, 100, 50, 30, 15],
        [60, 25, 12, 5, 3],
    ],
    # fraction of values
    "impulse_noise": [
        [0.01, 0.02, 0.03, 0.05, 0.07],
        [0.01, 0.02, 0.05, 0.08, 0.14],
        [0.03, 0.06, 0.09, 0.17, 0.27],
    ],
    # sigma in pixels
    "gaussian_blur": [
        [0.4, 0.6, 0.7, 0.8, 1],
        [0.5, 0.75, 1, 1.25, 1.5],
        [1, 2, 3, 4, 6],
    ],
    # largest zoom
    "zoom_blur": [
        [1.05, 1.1, 1.15, 1.2, 1.25],
        [1.05, 1.1, 1.15, 1.2, 1.25],
        [1.1, 1.15, 1.2, 1.24, 1.28],
    ],
    # added to the value of HSV
    "brightness": [
        [0.05, 0.1, 0.15, 0.2, 0.3],
        [0.1, 0.2, 0.3, 0.4, 0.5],
        [0.1, 0.2, 0.3, 0.4, 0.5],
    ],
    # factor
    "contrast": [
        [0.75, 0.5, 0.4, 0.3, 0.15],
        [0.4, 0.3, 0.2, 0.1, 0.05],
        [0.4, 0.3, 0.2, 0.1, 0.05],
    ],
    # root mean square displacement, fraction of the side
    "elastic": [
        [0.005, 0.01, 0.015, 0.02, 0.03],
        [0.005, 0.01, 0.015, 0.02, 0.03],
        [0.005, 0.01, 0.015, 0.02, 0.03],
    ],
    # resolution kept
    "pixelate": [
        [0.95, 0.9, 0.85, 0.75, 0.65],
        [0.9, 0.8, 0.7, 0.6, 0.5],
        [0.6, 0.5, 0.4, 0.3, 0.25],
    ],
    # quality
    "jpeg": [
        [80, 65, 58, 50, 40],
        [65, 58, 50, 40, 25],
        [25, 18, 15, 10, 7],
    ],
}
REPEATS = list(PUBLISHED)


def perturb(images, labels, levels, generator, model, repeat):
    """Yields images (N, 3, H, W) in [0, 1] under the corruption named `repeat`.

    Each severity starts from the same state of the generator.
    """
    corrupt, side = CORRUPTIONS[repeat], images.shape[-1]
    state = generator.get_state()
    for severity in levels:
        generator.set_state(state)
        yield corrupt(images, parameter(repeat, severity, side), generator).clamp(0, 1)


def parameter(corruption, severity, side):
    """The corruption's parameter at a severity from 1 to 5, for images of `side` pixels.

    Between 0 and 1 it is as at 1.
    """
    by_side = [np.interp(severity, range(1, 6), row) for row in PUBLISHED[corruption]]
    return float(np.interp(np.log2(side), np.log2(SIDES), by_side))


def shot_noise(images, photons, generator):
    return torch.poisson(images.cpu() * photons, generator=generator).to(images.device) / photons


def impulse_noise(images, fraction, generator):
    place = torch.rand(images.shape, generator=generator).to(images.device)
    return images.masked_fill(place < fraction / 2, 0).masked_fill(place > 1 - fraction / 2, 1)


def gaussian_blur(images, sigma, generator):
    radius = min(int(np.ceil(3 * sigma)), images.shape[-1] - 1)
    return functional.gaussian_blur(images, 2 * radius + 1, sigma)


def zoom_blur(images, largest, generator):
    bilinear = functional.InterpolationMode.BILINEAR
    zoomed = [
        functional.affine(images, 0, [0, 0], zoom, [0, 0], bilinear)
        for zoom in np.linspace(1, largest, 6).tolist()
    ]
    return (images + sum(zoomed)) / (1 + len(zoomed))


def brightness(images, added, generator):
    value = images.amax(1, keepdim=True)
    brighter = (value + added).clamp(max=1)
    # Hue and saturation stay.
    return torch.where(value > 0, images * brighter / value.clamp(min=1e-12), brighter)


def contrast(images, factor, generator):
    mean = images.mean((2, 3), keepdim=True)
    return (images - mean) * factor + mean


def elastic(images, distance, generator):
    side = images.shape[-1]
    noise = torch.rand(len(images), 2, side, side, generator=generator) * 2 - 1
    field = functional.gaussian_blur(noise, 2 * (side // 8) + 1, side / 25)
    length = field.square().mean((1, 2, 3), keepdim=True).sqrt()
    field = field / length * 2 * distance  # the image's side is 2 in these units
    field = field.permute(0, 2, 3, 1).to(images.device)
    moved = [functional.elastic(images[k : k + 1], field[k : k + 1]) for k in range(len(images))]
    return torch.cat(moved)


def pixelate(images, kept, generator):
    small = interpolate(images, size=int(images.shape[-1] * kept), mode="area")
    return interpolate(small, size=images.shape[-1], mode="nearest-exact")


def jpeg(images, quality, generator):
    coded = []
    for image in (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy():
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=round(quality))
        coded.append(np.asarray(Image.open(file)))
    return torch.from_numpy(np.stack(coded)).to(images.device).permute(0, 3, 1, 2) / 255


CORRUPTIONS = {
    "shot_noise": shot_noise,
    "impulse_noise": impulse_noise,
    "gaussian_blur": gaussian_blur,
    "zoom_blur": zoom_blur,
    "brightness": brightness,
    "contrast": contrast,
    "elastic": elastic,
    "pixelate": pixelate,
    "jpeg": jpeg,
}


if __name__ == "__main__":
    passport.main(__doc__, [sys.modules[__name__]])
