"""Adam: the plain pretraining of the report. Adam with coupled weight decay on clean images."""
from common import loop, pretrain


def main():
    run = pretrain.setup(pretrain.parser(__doc__).parse_args())
    optimizer = loop.adam(run)

    def step(images, labels):
        loss, logits = run.forward(images, labels)
        run.descend(loss, optimizer)
        return loss, logits

    for _ in loop.fit(run, step, optimizer):
        pass
    pretrain.finish(run)


if __name__ == "__main__":
    main()
