"""SAM: Adam on the gradient at the worst point within rho of the weights (Foret et al. 2020,
arXiv 2010.01412); with --adaptive, distances count relative to each weight (ASAM, Kwon et al. 2021,
arXiv 2102.11600).

The worst point is w + epsilon, epsilon = rho·T²g / |T·g|, where g is the gradient at w. SAM itself
has T = 1; --adaptive has T = |w| + 0.01 on convolution and linear weights, and 1 on biases and the
parameters of normalisation. BatchNorm's statistics, loss and accuracy are those at w.
"""

import torch

from common import cli
from common.networks import weights
from common.training import loop, pretraining

ETA = 0.01  # so that a weight of 0 can move, as in Kwon et al.


def main():
    parser = pretraining.parser(__doc__)
    parser.add_argument(
        "--rho",
        type=cli.amount,
        default=0.05,
        help="Euclidean radius of the step up, over all parameters; some 10 times as large with "
        "--adaptive",
    )
    parser.add_argument(
        "--adaptive", action="store_true", help="the radius is relative to the size of each weight"
    )
    args = parser.parse_args()
    run = pretraining.start(args, __file__)
    optimizer = run.adam()

    def step(images, labels):
        loss, logits = run.forward(images, labels)
        run.backward(loss, optimizer)
        with weights.displaced(run.model, step_up(run.model, args.rho, args.adaptive)):
            run.backward(run.forward(images, labels)[0], optimizer)
        run.update(optimizer)
        return loss, logits

    loop.fit(run, step, optimizer)
    pretraining.finish(run, gradients=2)


@torch.no_grad()
def step_up(model: torch.nn.Module, rho: float, adaptive: bool) -> weights.Tensors:
    """epsilon, {name of a parameter: how far it moves}, from the gradients that are there.

    Their scale (float16's) cancels. Where all are 0, nothing moves.
    """
    parameters = dict(model.named_parameters())
    scaled = [value.grad for value in parameters.values()]  # T·g
    if adaptive:
        relative = weights.conv_linear(model)
        scales = [
            value.abs() + ETA if name in relative else torch.ones_like(value)
            for name, value in parameters.items()
        ]
        scaled = torch._foreach_mul(scaled, scales)
    norm = torch.stack(torch._foreach_norm(scaled)).norm()
    step = torch._foreach_mul(scaled, rho / norm.clamp_min(torch.finfo(norm.dtype).tiny))
    if adaptive:
        step = torch._foreach_mul(step, scales)
    return dict(zip(parameters, step))


if __name__ == "__main__":
    main()
