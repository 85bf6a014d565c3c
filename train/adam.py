"""Adam: the plain pretraining of the report. Adam with coupled weight decay on clean images."""

from common.training import loop, pretraining


def main():
    run = pretraining.start(pretraining.parser(__doc__).parse_args(), __file__)
    optimizer = run.adam()

    def step(images, labels):
        loss, logits = run.forward(images, labels)
        run.descend(loss, optimizer)
        return loss, logits

    loop.fit(run, step, optimizer)
    pretraining.finish(run)


if __name__ == "__main__":
    main()
