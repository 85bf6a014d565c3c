"""Linear probe: the network stays as it is, and its new head is fitted to what it gives, by
multinomial logistic regression (Alain and Bengio 2016, arXiv 1610.01644).

The features, which are the input of the head with the network in eval mode, are computed once and
divided by their standard deviation, one number for all. The head is where cross-entropy plus an L2
penalty on its weights has its minimum over the training images. The penalty's strength is the one
whose head has the least loss on the val images; where there are none, or --measure-on val measures
on them, in a cross-validation on the training images.

Nothing is drawn and no weight of the network is trained. So there is one run, whatever --runs says,
of 0 epochs; all distances are 0, and epochs to the target are 0 or never. --epochs, --lr and the
other flags of training do nothing. `probe/strength` is the strength that was chosen, scikit-learn's
C.
"""

from time import monotonic

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from common import settings
from common.networks import models
from common.training import finetuning, loop
from common.training.run import Run

STRENGTHS = 10.0 ** np.arange(-4, 4)  # C: the penalty is |weights|² / (2·C·number of images)
FOLDS = 5
BATCH = 500  # images at once

Examples = tuple[np.ndarray, np.ndarray]  # features (N, D) float64, labels (N,)


def main():
    args = finetuning.parser(__doc__).parse_args()
    if args.setting and settings.flags(args.setting):
        raise SystemExit(f"{args.setting}: a probe has no settings; write probe")
    args.epochs, args.runs = 0, 1
    for run in finetuning.runs(args, __file__):
        began = monotonic()
        run.curves["probe/strength"].append(fit_head(run))
        loop.record(run, 0, began)
        positions = iter([loop.Position(epoch=0, last=True)])
        if run.source:
            positions = run.source.follow(run, positions, every_epoch=False)
        finetuning.Distances(run.model).follow(positions, run.curves)


def fit_head(run: Run) -> float:
    """Gives the network its fitted head; returns the strength that was chosen."""
    train, val = features(run, "train"), features(run, "val")
    scale = train[0].std() or 1.0
    train, val = ((values / scale, labels) for values, labels in (train, val))
    trials = held_out(run, train, val)
    losses = [
        np.mean([loss(fitted(strength, *shown), *hidden) for shown, hidden in trials])
        for strength in STRENGTHS
    ]
    strength = STRENGTHS[np.argmin(losses)]
    classifier = fitted(strength, *train)
    weight, bias = classifier.coef_ / scale, classifier.intercept_
    if len(weight) == 1:  # of two classes it has one logit, which is the difference of ours
        weight, bias = np.vstack([-weight, weight]) / 2, np.append(-bias, bias) / 2
    _, head = models.head(run.model)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight))
        head.bias.copy_(torch.from_numpy(bias))
    return strength


@torch.no_grad()
def features(run: Run, split: str) -> Examples:
    """The head's input for every image of a split, with the network in eval mode, and the labels.

    SystemExit with one line where the head is no linear layer.
    """
    name, head = models.head(run.model)
    if not isinstance(head, torch.nn.Linear):
        raise SystemExit(
            f"{run.args.minimum}: its head, {name}, is a convolution, and a probe is a linear "
            "layer; leave probe out of MODES"
        )
    index = run.pack.indices(split)
    values = [np.empty((0, head.in_features))]
    hook = head.register_forward_pre_hook(
        lambda _, inputs: values.append(inputs[0].double().cpu().numpy())
    )
    run.model.eval()
    for images, _ in run.pack.batches(index.split(BATCH) if len(index) else []):
        run.model(images)
    hook.remove()
    return np.concatenate(values), run.pack.labels[index.to(run.device)].cpu().numpy()


def held_out(run: Run, train: Examples, val: Examples) -> list[tuple[Examples, Examples]]:
    """Pairs of what a head is fitted to and what it is judged on, when a strength is chosen.

    SystemExit with one line where a class has too few training images.
    """
    values, labels = train
    on_val = len(val[1]) > 0 and run.args.measure_on != "val"
    needed, least = 1 if on_val else 2, np.bincount(labels, minlength=len(run.pack.classes)).min()
    if least < needed:
        raise SystemExit(
            f"{run.args.data}: its smallest class has {least} of the {needed} training images that "
            "a probe takes; prepare a pack of more"
        )
    if on_val:
        return [(train, val)]
    return [
        ((values[shown], labels[shown]), (values[hidden], labels[hidden]))
        for shown, hidden in StratifiedKFold(min(FOLDS, least)).split(values, labels)
    ]


def fitted(strength: float, values: np.ndarray, labels: np.ndarray) -> LogisticRegression:
    """The head at the minimum: where the gradient is at most 1e-8."""
    classifier = LogisticRegression(C=strength, solver="newton-cg", tol=1e-8, max_iter=1000)
    return classifier.fit(values, labels)


def loss(classifier: LogisticRegression, values: np.ndarray, labels: np.ndarray) -> float:
    """Mean cross-entropy, nats per image."""
    return -classifier.predict_log_proba(values)[np.arange(len(labels)), labels].mean()


if __name__ == "__main__":
    main()
