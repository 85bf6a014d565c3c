"""Pairs of minima: the straight line between them, and how far apart they are."""

import numpy as np

from eval.report import cells, figures
from eval.report.page import Page
from eval.report.results import SPLITS, Result, grouped
from eval.report.study import Study

PARTS = ("all", "weights", "batchnorm")
DISTANCES = ("raw", "relative", "cosine")
PATHS = ("path", "path_recomputed")


def add(study: Study, page: Page):
    """Independent runs apart from those that share a start: only they speak to the claims."""
    page.heading("Pairs of minima")
    lines, distances = (
        grouped(study.compared(name), lambda result: bool(result.attrs["shared_start"]))
        for name in ("line", "distance")
    )
    style = figures.styles(
        result.label for name in ("line", "distance") for result in study.compared(name)
    )
    for shared in dict.fromkeys([*lines, *distances]):
        words = "sharing seed and start" if shared else "of independent runs"
        if shared in lines:
            add_lines(study, page, lines[shared], shared, words, style)
        if shared in distances:
            page.table(
                table(distances[shared]),
                f"distance.h5, pairs {words}. Raw: Euclidean norm of the difference; relative: "
                "divided by the mean of the two norms.",
                fold_long=f"distances, pairs {words}",
            )


def add_lines(study: Study, page: Page, lines: list[Result], shared: bool, words: str, style: dict):
    """Loss and accuracy along the lines."""
    published = {} if shared else study.reference
    columns = [
        figures.Column(
            f"{path}/{split}",
            title=f"{path.replace('_', ' ')}: {split}",
            axis=f"{path}/t",
            x_label="position t on the line",
            split=split,
            reference=published.get(path, {}),
        )
        for path in PATHS
        for split in SPLITS
    ]
    page.figure(
        f"paths_{'shared_start' if shared else 'independent'}",
        figures.curves(lines, columns, style, classes=lines[0].attrs["classes"]),
        f"The straight line between the minima of {len(lines)} pairs {words} (a pair each: no "
        "interval), from the first (t = 0) to the second; BatchNorm's statistics interpolated, or "
        "recomputed at every point.",
        lines,
        PATHS,
    )


def table(distances: list[Result]) -> list[list[str]]:
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
    return [header, *rows]
