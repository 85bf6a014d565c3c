"""Full finetuning: a new head, and every weight trained with Adam at a small lr (the report's)."""

from common.training import finetuning


def finetune(run):
    optimizer = run.adam()

    def step(images, labels):
        loss, logits = run.forward(images, labels)
        run.descend(loss, optimizer)
        return loss, logits

    finetuning.fit(run, step, optimizer)


if __name__ == "__main__":
    args = finetuning.parser(__doc__).parse_args()
    for run in finetuning.runs(args, __file__):
        finetune(run)
