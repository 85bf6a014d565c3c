"""Finetuning: its curves, learning against forgetting, and how far it went."""

from dataclasses import replace

import numpy as np

from eval.report import cells, curves
from eval.report.cells import with_ends
from eval.report.page import Page, Table
from eval.report.panels import Line, Panel, Point
from eval.report.results import SPLITS, Result
from eval.report.sections import settings
from eval.report.study import Finetuning, Study, over

# {folder: (what it is, its unit)}, of the distance from the start.
MOVED = {
    "distance_relative": ("Distance from the start", "/ norm at the start"),
    "path": ("Length of the path, all steps added up", "Euclidean norm"),
}


def add(study: Study, page: Page):
    """For each task and mode: what it came to, what it forgot, how far it went."""
    if not study.finetunings:
        return
    page.heading("Finetuning")
    for finetuning in study.finetunings:
        results = finetuning.results
        runs = "/".join(sorted({str(len(result.data["epochs_to_target"])) for result in results}))
        place = f"{finetuning.task}/{finetuning.mode}.h5"
        made = f"{place}, {runs} runs a minimum, averaged: {over(results)}."
        add_outcomes(study, page, finetuning, made)
        add_forgetting(study, page, finetuning)
        if finetuning.moves:  # else a probe: a head alone, fitted and not trained
            add_distances(study, page, finetuning, made)


def add_outcomes(study: Study, page: Page, finetuning: Finetuning, made: str):
    """Curves of train and test, and what they came to."""
    results, label = finetuning.results, finetuning.label
    values = study.values.where(**finetuning.fields | {"statistic": ["", "std"]}, name="accuracy")
    spread = values.where(split="test", statistic="std")
    train = values.where(split="train", statistic="")
    outcomes = settings.outcomes(study, finetuning) + [
        ("std of test accuracy over runs", cells.by_minimum(spread)),
        ("train accuracy", cells.by_minimum(train)),
    ]
    caption = f"At the last epoch. {made}"
    tables = [
        Table(f"{label}: every setting", cells.lines(outcomes, study.members), caption),
        Table(f"{label}: every minimum", cells.lines(outcomes, study.each), caption),
    ]
    if not finetuning.moves:
        for table in tables:
            page.table(table)
        return
    columns = [curves.Column(split, split.capitalize(), split=split) for split in SPLITS]
    panels = curves.panels(
        results, columns, study.style, study.links, target=results[0].attrs["target"]
    )
    tested = study.mean_by_setting(values.where(split="test", statistic=""))
    see = curves.extremes(tested, "test accuracy") or "its curves"
    page.picture(
        f"finetune_{label}",
        panels,
        f"Finetuning ({label}): {see}.",
        f"In eval mode. What was measured at the end alone stands in the tables. {made}",
        results,
        SPLITS,
        curves.legend(panels, study.style),
        tables,
    )


def add_forgetting(study: Study, page: Page, finetuning: Finetuning):
    """What was learnt against what was forgotten, a point a minimum."""
    names, chosen = list(study.minima["minimum"]), list(study.minima["setting"])
    values = study.values.where(**finetuning.fields)
    lost = values.aligned(names, name="forgetting", batchnorm="recomputed")
    learnt = values.aligned(names, split="test", name="accuracy")
    points = [
        Point(
            x,
            y,
            study.style[setting],
            f"{name}: lost {with_ends(x)}, reached {with_ends(y)}",
            study.links[name],
            label=setting,
        )
        for name, setting, x, y in zip(names, chosen, lost, learnt)
        if np.isfinite(x + y)
    ]
    if not any(point.x for point in points):  # a probe's network forgets nothing
        return
    panel = Panel(
        "Test accuracy after finetuning",
        points=points,
        shown="fraction",
        x_label="source accuracy lost (fraction)",
    )
    forgotten, tested = values.where(name="forgetting"), values.where(split="test", name="accuracy")
    columns = [
        (f"source accuracy lost, BatchNorm {kind}", cells.by_minimum(some))
        for kind in ("recomputed", "stored")
        if len(some := forgotten.where(batchnorm=kind))
    ] + [("test accuracy", cells.by_minimum(tested))]
    mean = study.mean_by_setting(forgotten.where(batchnorm="recomputed"))
    span = curves.extremes(mean, "source accuracy lost")
    page.picture(
        f"forgetting_{finetuning.label}",
        [panel],
        f"Learning against forgetting{': ' * bool(span)}{span}",
        f"A point is a minimum, n = {len(points)}; the best corner is at the upper left. Source "
        "accuracy: on test images of the classes of pretraining, with the old head, BatchNorm "
        "recomputed.",
        finetuning.results,
        ["source", "test"],
        curves.legend([panel], study.style),
        [
            Table("Every setting", cells.lines(columns, study.members)),
            Table("Every minimum", cells.lines(columns, study.each)),
        ],
    )


def add_distances(study: Study, page: Page, finetuning: Finetuning, made: str):
    """How far the parameters went: epoch by epoch, and at equal train loss."""
    results, panels = finetuning.results, []
    for name, (title, shown) in MOVED.items():
        column = curves.Column(name, title)
        for panel in curves.panels(results, [column], study.style, study.links, ["all"]):
            panels.append(replace(panel, title=title, shown=shown))
    panels.append(against_loss(study, results))
    page.picture(
        f"distance_{finetuning.label}",
        panels,
        f"How far finetuning ({finetuning.label}) went from the minimum, all but the head",
        "Against train loss: a point is an epoch; at one place, from left to right, all have "
        f"learnt as much. {made}",
        results,
        [*MOVED, "train"],
        curves.legend(panels, study.style),
        [
            Table(
                f"{finetuning.label}: distances of every part of the network",
                cells.turned(cells.lines(travelled(study, finetuning), study.members)),
                "Distance / norm at the start, at the last epoch and where train loss first "
                "reaches the lowest value that all runs reach; by group of parameters: all, "
                "weights, batchnorm and the network's top-level modules, each without the head; "
                "the head; with head: everything.",
            )
        ],
    )


def against_loss(study: Study, results: list[Result]) -> Panel:
    """Relative distance against train loss, epoch by epoch: at one place, at equal train loss."""
    moved, lines = curves.collect(results, "epoch", "distance_relative/all"), []
    for label, (_, losses) in curves.collect(results, "epoch", "train/loss").items():
        x, y = np.mean(losses, 0)[1:], np.mean(moved[label][1], 0)[1:]
        words = f"{label}: {curves.listed(x, y)}"
        lines.append(Line(x, y, study.style[label], words, study.links[label], label=label))
    return Panel(
        "Distance at equal train loss",
        lines=lines,
        shown="/ norm at the start",
        x_label="train loss (nats per image)",
        log_x=all(np.nanmin(line.x, initial=np.inf) > 0 for line in lines),
        down=True,
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
