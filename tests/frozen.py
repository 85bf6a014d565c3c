"""A method for the tests: noisy Adam whose BatchNorm keeps its first statistics, so that each
image's loss is its own."""

from common.networks import batchnorm
from common.training import loop, pretraining


def main():
    run = pretraining.start(pretraining.parser(__doc__).parse_args(), __file__)
    optimizer = run.adam()
    for layer in batchnorm.layers(run.model):
        layer.eval().train = lambda mode=True: None

    def step(images, labels):
        loss, logits = run.forward(images + 0.05 * run.randn(images), labels)
        run.descend(loss, optimizer)
        return loss, logits

    loop.fit(run, step, optimizer)
    pretraining.finish(run)


if __name__ == "__main__":
    main()
