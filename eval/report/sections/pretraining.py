"""Pretraining and generalization: the curves of training, and the clean numbers of each minimum."""

from eval.report import cells, curves
from eval.report.page import Page, Table
from eval.report.study import Study, over
from eval.report.table import MEASURED

CLEAN = {"train": ("accuracy", "loss"), "test": ("accuracy", "loss", "brier", "ece")}


def add(study: Study, page: Page):
    """Curves of train and val; under them clean accuracy, loss and calibration."""
    page.heading("Pretraining and generalization")
    images = min((result.settings["images"] for result in study.passports), default=1)
    brackets = f"Brackets: {study.interval}; on" if study.interval else "On"
    caption = (
        f"Clean images, BatchNorm as it was stored: {over(study.passports)}. {brackets} {images} "
        "images an accuracy "
        f"near one half has a binomial standard error of {50 / images**0.5:.1f} points. Loss in "
        "nats per image; brier: squared distance of probabilities from the label, 0 to 2; ece: "
        "expected calibration error, 15 bins."
    )
    numbers = Table("Clean numbers of every setting", cells.lines(clean(study), study.members))
    tables = [numbers, Table("Of every minimum", cells.lines(clean(study), study.each), caption)]
    training = study.training
    if not training:
        for table in tables:
            page.table(table)
        return
    columns = [
        curves.Column(split, split.capitalize(), split=split, final=f"final/{split}")
        for split in ("train", "val")
    ]
    target = training[0].attrs["target"]
    panels = curves.panels(training, columns, study.style, study.links, target=target)
    page.picture(
        "pretraining",
        panels,
        see(study),
        f"In eval mode, on part of the training images and on val: {over(training)}. Rings: the "
        "weights that were saved.",
        training,
        ["train", "val", "final"],
        curves.legend(panels, study.style),
        tables,
    )


def see(study: Study) -> str:
    """How accurate the minima are, in a sentence."""
    values = study.values.where(**MEASURED, source="clean", split="test", name="accuracy")
    found = study.mean_by_setting(values)
    return f"On clean test images: {curves.extremes(found, 'accuracy')}." if len(found) > 1 else ""


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
