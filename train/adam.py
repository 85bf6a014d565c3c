"""Adam: the plain pretraining of the report. Adam with coupled weight decay on clean images."""

from common.training import loop, pretraining


def main():
    run = pretraining.setup(pretraining.parser(__doc__).parse_args())
    optimizer = loop.adam(run)

    def step(images, labels):
        loss, logits = run.forward(images, labels)
        run.descend(loss, optimizer)
        return loss, logits

    for _ in loop.fit(run, step, optimizer):
        pass
    pretraining.finish(run)


if __name__ == "__main__":
    main()
