"""Noisy weights: Adam on the gradient at w·(1 + sigma·z), z ~ N(0, 1) drawn anew at each step, on
all convolution and linear weights: the noise under which local energy is measured.

A pass over the same images at w, without its gradient, gives BatchNorm's statistics, loss and
accuracy. With SGD for Adam these would be the weights between the perturbations of Anti-PGD
(Orvieto et al. 2022, arXiv 2202.02831), whose noise is of one size for all weights.
"""

import torch

from common import cli
from common.networks import weights
from common.training import loop, pretraining


def main():
    parser = pretraining.parser(__doc__)
    parser.add_argument(
        "--sigma",
        type=cli.amount,
        default=0.05,
        help="standard deviation of the noise, relative to each weight",
    )
    args = parser.parse_args()
    run = pretraining.start(args, __file__)
    optimizer = run.adam()

    def step(images, labels):
        # Detached, so that its graph is gone at once; under no_grad other kernels would run.
        loss, logits = (value.detach() for value in run.forward(images, labels))
        with weights.displaced(run.model, noise(run.model, args.sigma, run.generator)):
            run.backward(run.forward(images, labels)[0], optimizer)
        run.update(optimizer)
        return loss, logits

    loop.fit(run, step, optimizer)
    pretraining.finish(run)


@torch.no_grad()
def noise(model: torch.nn.Module, sigma: float, generator: torch.Generator) -> weights.Tensors:
    """{name: sigma·z·w} of all convolution and linear weights w."""
    return {
        name: sigma * weight * torch.randn(weight.shape, generator=generator, device=weight.device)
        for name, weight in weights.conv_linear(model).items()
    }


if __name__ == "__main__":
    main()
