"""Full finetuning: a new head, and every weight trained with Adam at a small lr (the report's way)."""
from common import loop, transfer


def main():
    for run in transfer.runs(transfer.parser(__doc__).parse_args(), __file__):
        optimizer = loop.adam(run)

        def step(images, labels):
            loss, logits = run.forward(images, labels)
            run.descend(loss, optimizer)
            return loss, logits

        transfer.record(run, loop.fit(run, step, optimizer, before=True))


if __name__ == "__main__":
    main()
