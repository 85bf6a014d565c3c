"""Finetuning: its curves, how far it went, and distance at equal train loss."""

from eval.report import cells, figures
from eval.report.page import Page
from eval.report.results import SPLITS
from eval.report.sections import settings
from eval.report.study import Finetuning, Study, over

MOVED = ("distance", "distance_relative", "path")
PARTS = ("all", "weights", "batchnorm", "with_head")


def add(study: Study, page: Page):
    """For each task and mode: curves and outcomes, distances, distances at equal loss."""
    page.heading("Finetuning")
    for finetuning in study.finetunings:
        results, label = finetuning.results, finetuning.label
        runs = "/".join(sorted({str(len(result.data["epochs_to_target"])) for result in results}))
        place = f"{finetuning.task}/{finetuning.mode}.h5"
        made = f"{place}, {runs} runs a minimum, averaged: {over(results)}."
        add_outcomes(study, page, finetuning, made)
        if not finetuning.moves:  # a probe: a head alone, fitted and not trained
            continue
        add_distances(study, page, finetuning, made)
        page.figure(
            f"distance_at_loss_{label}",
            figures.against_loss(results, study.style),
            "Distance at equal train loss: a point an epoch, read along a vertical line. " + made,
            results,
            ["distance_relative", "train"],
        )
        page.table(
            cells.turned(cells.lines(travelled(study, finetuning), study.members)),
            "Distance / norm at the start, at the last epoch and where train loss first reaches "
            "the lowest value that all runs reach; by group of parameters: all, weights, batchnorm "
            "and the network's top-level modules, each without the head; the head; with head: "
            f"everything. {made}",
        )


def add_outcomes(study: Study, page: Page, finetuning: Finetuning, made: str):
    """Curves of train and test, and what they came to."""
    results = finetuning.results
    columns = [figures.Column(split, split, split=split) for split in SPLITS]
    target = results[0].attrs["target"]
    if finetuning.moves:
        page.figure(
            f"finetune_{finetuning.label}",
            figures.curves(results, columns, study.style, target=target),
            f"Eval mode; a point alone: measured at the end alone. {made}",
            results,
            SPLITS,
        )
    values = study.values.where(**finetuning.fields | {"statistic": ["", "std"]}, name="accuracy")
    spread = values.where(split="test", statistic="std")
    train = values.where(split="train", statistic="")
    outcomes = settings.outcomes(study, finetuning) + [
        ("std of test accuracy over runs", cells.by_minimum(spread)),
        ("train accuracy", cells.by_minimum(train)),
    ]
    page.table(cells.lines(outcomes, study.members), f"At the last epoch. {made}")
    page.table(cells.lines(outcomes, study.each), "", fold="every minimum")


def add_distances(study: Study, page: Page, finetuning: Finetuning, made: str):
    """How far the parameters went, epoch by epoch."""
    results = finetuning.results
    folders = {name for result in results for name in MOVED if result.folder(name)}
    parts = {part for result in results for part in result.folder("distance")}
    kinds = [name for name in MOVED if name in folders]
    columns = [figures.Column(name, figures.LABELS[name]) for name in kinds]
    page.figure(
        f"distance_{finetuning.label}",
        figures.curves(results, columns, study.style, [part for part in PARTS if part in parts]),
        "How far finetuning went: the straight distance from the start; that, divided by the norm "
        f"at the start; the length of the path, every step added up. {made}",
        results,
        kinds,
    )


def travelled(study: Study, finetuning: Finetuning) -> cells.Columns:
    """Relative distance of each group of parameters, at the end and at equal loss; straightness."""
    values = study.values.where(kind="finetune", task=finetuning.task, mode=finetuning.mode)
    values = values.where(statistic="")
    distances = values.where(name="distance_relative")
    columns = []
    for part in distances.frame["part"].unique():
        for moment in "", "at equal loss":
            title = part.replace("_", " ") + (", equal loss" if moment else "")
            columns.append((title, cells.by_minimum(distances.where(part=part, moment=moment))))
    path = values.where(name="path", part="all")
    straightness = values.where(name="straightness")
    return columns + [
        ("path, all", cells.by_minimum(path)),
        ("distance / path, all", cells.by_minimum(straightness)),
    ]
