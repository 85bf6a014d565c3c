"""Adam: the plain pretraining of the report. Adam with coupled weight decay on clean images."""
from common import loop


def main():
    run = loop.setup(loop.parser(__doc__).parse_args())
    optimizer = loop.adam(run)

    def step(images, labels):
        loss, logits = run.forward(images, labels)
        run.descend(loss, optimizer)
        return loss, logits

    for _ in loop.fit(run, step, optimizer):
        pass
    loop.finish(run)


if __name__ == "__main__":
    main()
