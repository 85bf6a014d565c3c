"""Full finetuning: a new head, and every weight trained with Adam at a small lr (the report's way)."""

from common.training import finetuning, loop


def main():
    for run in finetuning.runs(finetuning.parser(__doc__).parse_args(), __file__):
        optimizer = loop.adam(run)

        def step(images, labels):
            loss, logits = run.forward(images, labels)
            run.descend(loss, optimizer)
            return loss, logits

        finetuning.record(run, loop.fit(run, step, optimizer, before=True))


if __name__ == "__main__":
    main()
