"""SWA: the average of weights that Adam visits at a constant lr (Izmailov et al. 2018, arXiv 1803.05407; on Adam as the report did).

Adam's own trajectory until the first epoch whose running train accuracy reaches --target, at the latest after 75 % of the epochs;
one epoch of linear anneal to --swa-lr; then snapshots at equal steps, averaged. BatchNorm is recomputed over the training images.
The last iterate is kept beside the average: the control that separates averaging from the change of lr.
"""

from pathlib import Path

from common import cli
from common.networks import batchnorm, weights
from common.training import loop, pretraining


def main():
    parser = pretraining.parser(__doc__)
    parser.add_argument(
        "--swa-lr", type=cli.rate, default=5e-4, help="constant lr of the averaging phase"
    )
    parser.add_argument("--snapshots", type=cli.count, default=1, help="snapshots an epoch")
    args = parser.parse_args()
    latest = args.epochs * 3 // 4  # epochs before the branch, at most
    if (args.epochs - latest - 1) * args.snapshots < 5:
        raise SystemExit(
            f"--epochs {args.epochs} --snapshots {args.snapshots}: fewer than 5 snapshots to average; raise --snapshots"
        )
    run = pretraining.setup(args)
    optimizer = loop.adam(run)
    average = weights.Average()
    before = loop.constant_then_linear(args)

    def lr(progress):
        since = progress * args.epochs - average.branch  # epochs since the branch
        if since < 0:
            return before(progress)
        branch_lr = before(average.branch / args.epochs)
        return branch_lr + (args.swa_lr - branch_lr) * min(since, 1)

    def step(images, labels):
        loss, logits = run.forward(images, labels)
        run.descend(loss, optimizer)
        return loss, logits

    for position in loop.fit(run, step, optimizer, lr, state=average, parts=args.snapshots):
        if position.epoch > average.branch + 1:
            average.update(run.model)
        elif (
            position.last
            and average.branch == float("inf")
            and (position.accuracy >= args.target or position.epoch >= latest)
        ):
            average.branch = position.epoch

    pretraining.save(run, Path(args.out) / "last.safetensors")
    average.copy_to(run.model)
    batchnorm.recompute(run.model, run.pack, run.train)
    pretraining.finish(run)


if __name__ == "__main__":
    main()
