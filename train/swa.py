"""SWA: the average of weights that Adam visits at a constant lr (Izmailov et al. 2018,
arXiv 1803.05407; on Adam as the report did).

Adam's own trajectory until the first epoch whose running train accuracy reaches --target, at the
latest after 75 % of the epochs; one epoch of linear anneal to --swa-lr; then snapshots at equal
steps, averaged. BatchNorm is recomputed over the training images. The last iterate is a minimum
beside the average, in the folder `last`: the control that separates averaging from the change of
lr.
"""

from common import cli
from common.networks import batchnorm, weights
from common.training import loop, pretraining

FEWEST = 5  # snapshots that make an average


def main():
    parser = pretraining.parser(__doc__)
    parser.add_argument(
        "--swa-lr", type=cli.rate, default=5e-4, help="constant lr of the averaging phase"
    )
    parser.add_argument("--snapshots", type=cli.count, default=1, help="snapshots an epoch")
    args = parser.parse_args()
    latest_branch = args.epochs * 3 // 4  # in epochs
    averaging = args.epochs - latest_branch - 1  # epochs, at least
    if averaging * args.snapshots < FEWEST:
        raise SystemExit(
            f"--epochs {args.epochs} --snapshots {args.snapshots}: fewer than {FEWEST} snapshots "
            "to average; raise --snapshots"
        )
    run = pretraining.start(args, __file__)
    taken = len(loop.pauses_in(run.steps, args.snapshots)) + 1  # an epoch
    if averaging * taken < FEWEST:
        raise SystemExit(
            f"--snapshots {args.snapshots}: an epoch has so few steps ({run.steps}) that only "
            f"{averaging * taken} can be averaged, fewer than {FEWEST}; raise --epochs, or give a "
            "smaller --batch-size"
        )
    optimizer = run.adam()
    average = weights.Average()
    adam_lr = loop.constant_then_linear(args)

    def lr(progress):
        since_branch = progress * args.epochs - average.branch  # in epochs
        if since_branch < 0:
            return adam_lr(progress)
        branch_lr = adam_lr(average.branch / args.epochs)
        return branch_lr + (args.swa_lr - branch_lr) * min(since_branch, 1)

    def step(images, labels):
        loss, logits = run.forward(images, labels)
        run.descend(loss, optimizer)
        return loss, logits

    def branches_here(position):
        reached = position.accuracy >= args.target
        return reached or position.epoch >= latest_branch

    for position in loop.epochs(run, step, optimizer, lr, state=average, parts=args.snapshots):
        if position.epoch > average.branch + 1:
            average.update(run.model)
        elif position.last and average.branch == float("inf") and branches_here(position):
            average.branch = position.epoch

    pretraining.save(run, beside="last")
    last = {name: value.clone() for name, value in run.model.named_parameters()}
    average.copy_to(run.model)
    batchnorm.recompute(run.model, run.pack, run.train)
    moved = weights.distance(dict(run.model.named_parameters()), last)["relative"]
    pretraining.finish(run, averaged=average.count, distance_from_last=moved)


if __name__ == "__main__":
    main()
