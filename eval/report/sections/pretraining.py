"""Pretraining and generalization: the curves of training, and the clean numbers of each minimum."""

from eval.report import cells, figures
from eval.report.page import Page
from eval.report.study import Study, over
from eval.report.table import MEASURED

CLEAN = {"train": ("accuracy", "loss"), "test": ("accuracy", "loss", "brier", "ece")}


def add(study: Study, page: Page):
    """Curves of train and val; a table of clean accuracy, loss and calibration."""
    page.heading("Pretraining and generalization")
    training = study.training
    if training:
        columns = [
            figures.Column(split, split, split=split, final=f"final/{split}")
            for split in ("train", "val")
        ]
        target = training[0].attrs["target"]
        page.figure(
            "pretraining",
            figures.curves(training, columns, study.style, target=target),
            f"Eval mode, train (part of the training images) and val: {over(training)}. Rings: the "
            "weights that were saved.",
            training,
            ["train", "val"],
        )
    images = min((result.settings["images"] for result in study.passports), default=1)
    brackets = f"Brackets: {study.interval}" if study.interval else ""
    caption = (
        f"passport.h5, clean: {over(study.passports)}. {brackets}: on {images} images an accuracy "
        f"near one half has a binomial standard error of {50 / images**0.5:.1f} points. Loss in "
        "nats per image; brier: squared distance of probabilities from the label, 0 to 2; ece: "
        "expected calibration error, 15 bins."
    )
    page.table(cells.lines(clean(study), study.members), caption)
    page.table(cells.lines(clean(study), study.each), "", fold="every minimum")


def clean(study: Study) -> cells.Columns:
    """When pretraining reached its target, and what the minima do on clean images."""
    pretraining = study.values.where(source="pretraining")
    values = study.values.where(**MEASURED, source="clean")
    costs = {"gradients an image": "gradients", "epoch at target (running)": "epoch_at_target"}
    return [
        (title, cells.by_minimum(pretraining.where(name=name))) for title, name in costs.items()
    ] + [
        (f"{split} {name}", cells.by_minimum(values.where(split=split, name=name)))
        for split, names in CLEAN.items()
        for name in names
    ]
