"""Noisy Adam: Adam on clamp(x + N(0, sigma²), 0, 1), with fresh noise at every presentation.

The step is the only forward pass in train mode, so BatchNorm's statistics are those of noisy images
alone.
"""

from common import cli
from common.training import loop, pretraining


def main():
    parser = pretraining.parser(__doc__)
    parser.add_argument(
        "--sigma",
        type=cli.amount,
        default=0.05,
        help="standard deviation of the noise; images are in [0, 1]",
    )
    args = parser.parse_args()
    run = pretraining.start(args, __file__)
    optimizer = run.adam()

    def step(images, labels):
        noisy = (images + args.sigma * run.randn(images)).clamp(0, 1)
        loss, logits = run.forward(noisy, labels)
        run.descend(loss, optimizer)
        return loss, logits

    loop.fit(run, step, optimizer)
    pretraining.finish(run)


if __name__ == "__main__":
    main()
