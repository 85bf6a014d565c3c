"""Pairs of minima: the straight line between them, and how far apart they are."""

import numpy as np

from eval.report import cells, curves
from eval.report.claims import PATHS, barrier
from eval.report.page import Page, Table
from eval.report.results import SPLITS, Result, grouped
from eval.report.sections.head import counted
from eval.report.study import Study
from eval.report.styles import styles

PARTS = ("all", "weights", "batchnorm")
DISTANCES = ("raw", "relative", "cosine")


def add(study: Study, page: Page):
    """Independent runs apart from those that share a start: only they speak to the claims."""
    lines, distances = (
        grouped(study.compared(name), lambda result: bool(result.attrs["shared_start"]))
        for name in ("line", "distance")
    )
    if not lines and not distances:
        return
    page.heading("Paths and distances between minima")
    style = styles(result.label for name in ("line", "distance") for result in study.compared(name))
    for shared in dict.fromkeys([*lines, *distances]):
        words = "sharing seed and start" if shared else "of independent runs"
        tables = [table(distances[shared], words)] if shared in distances else []
        if shared in lines:
            add_lines(study, page, lines[shared], shared, words, style, tables)
        else:
            page.table(*tables)


def add_lines(
    study: Study,
    page: Page,
    lines: list[Result],
    shared: bool,
    words: str,
    style: dict,
    tables: list[Table],
):
    """Loss and accuracy along the lines."""
    published = {} if shared else study.reference
    columns = [
        curves.Column(
            f"{path}/{split}",
            title=f"{split.capitalize()}, {batchnorm}",
            axis=f"{path}/t",
            x_label="position on the line",
            split=split,
            reference=published.get(path, {}),
        )
        for path, batchnorm in PATHS.items()
        for split in SPLITS
    ]
    classes = lines[0].attrs["classes"]
    panels = curves.panels(lines, columns, style, study.links, classes=classes)
    page.picture(
        f"paths_{'shared_start' if shared else 'independent'}",
        panels,
        see(lines, words),
        f"The straight line between the minima of {counted(len(lines), 'pair', 'pairs')} {words} "
        "(a pair each: no interval), from the first (0) to the second (1); BatchNorm's statistics "
        "interpolated, or recomputed at every point.",
        lines,
        list(PATHS),
        curves.legend(panels, style),
        tables,
    )


def see(lines: list[Result], words: str) -> str:
    """How high the loss rises between minima, in a sentence."""
    heights = [
        barrier(line.data["path_recomputed/t"], line.data["path_recomputed/train/loss"])
        for line in lines
        if "path_recomputed/train/loss" in line.data
    ]
    heights = [height for height in heights if np.isfinite(height)]
    if not heights:
        return ""
    low, high = min(heights), max(heights)
    size = f"{low:.2f} to {high:.2f}" if f"{low:.2f}" != f"{high:.2f}" else f"{low:.2f}"
    return (
        f"Between minima {words} train loss rises {size} nats above the straight line of its ends "
        "(BatchNorm recomputed)."
    )


def table(distances: list[Result], words: str) -> Table:
    """A line a pair."""
    header = ["", *(f"{part} {distance}" for part in PARTS for distance in DISTANCES)]
    rows = [
        [
            result.minimum,
            *(
                cells.number(result.data.get(f"distance/{part}/{distance}", np.nan))
                for part in PARTS
                for distance in DISTANCES
            ),
        ]
        for result in distances
    ]
    return Table(
        f"Distances between minima {words}",
        [header, *rows],
        "Raw: Euclidean norm of the difference; relative: divided by the mean of the two norms.",
    )
