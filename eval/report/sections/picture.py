"""Below the answer its picture, a row of panels a ladder; without ladders a sentence an outcome."""

import numpy as np

from eval.report import figures, ladders
from eval.report.ladders import CANNOT_TELL
from eval.report.page import Page
from eval.report.sections import correlations
from eval.report.statistics import Estimate
from eval.report.study import Study, capitalized
from eval.report.verdicts import OUTCOMES as CORRELATED

ROBUST, FINETUNED = figures.COLOURS[:2]
FAR_APART = 30  # the largest value over the least, beyond which an axis is logarithmic


def add(study: Study, page: Page):
    """The picture of the ladders; without any, a sentence for each outcome of the correlations."""
    if study.found:
        add_picture(study, page)
    elif study.tests:
        for outcome, text in correlations.findings(study).items():
            page.finding(capitalized(CORRELATED[outcome][0]), text)


def add_picture(study: Study, page: Page):
    """A row of panels a ladder: each measure of robustness and each outcome against the rung."""
    rows = [panels(ladder) for ladder in study.found.ladders]
    for column in zip(*rows):
        limits, log = range_of([panel.by_seed for panel in column], column[0].least)
        for panel in column:
            panel.limits, panel.log = limits, log
    counts = sorted({len(panel.by_seed) for row in rows for panel in row})
    seeds = " to ".join(map(str, dict.fromkeys([counts[0], counts[-1]])))
    finetuned = study.asked.results if study.asked else []
    page.panels(
        "ladders",
        {
            f"{ladder.name}: {' → '.join(ladder.rungs)}": row
            for ladder, row in zip(study.found.ladders, rows)
        },
        "A row a ladder, its rungs from left to right; one scale for all ladders. Thin: a seed; "
        "thick: their mean. Blue: measures of robustness; orange: outcomes of finetuning. Change "
        "from the first rung to the last along each seed's straight line, with Student's 95 % "
        f"interval; n = {seeds} seeds.",
        [*study.passports, *finetuned],
    )


def panels(ladder: ladders.Ladder) -> list[figures.Climb]:
    """The panels of one ladder."""
    measures = [
        figures.Climb(
            row.along.by_seed,
            capitalized(row.measure.against),
            row.measure.shown,
            row.words,
            sized(row.along.change),
            ROBUST,
            row.moved,
        )
        for row in ladder.measures
    ]
    outcomes = [
        figures.Climb(
            row.along.by_seed,
            capitalized(row.outcome.words),
            row.outcome.shown,
            row.words,
            change_of(row),
            FINETUNED,
            row.verdict != CANNOT_TELL,
            least=2 * row.outcome.margin,
        )
        for row in ladder.outcomes
    ]
    return measures + outcomes


def sized(change: Estimate) -> str:
    """A change of a measure, with its interval where it has one."""
    ends = [] if change.why else [change.low, change.high]
    return number_and_ends(change.mean, ends)


def number_and_ends(mean: float, ends: list[float]) -> str:
    """−0.46 [−0.52, −0.40]; a dash where there is no number."""
    if not np.isfinite(mean):
        return "–"
    shown, *limits = (f"{value:+.3g}" for value in [mean, *ends])
    interval = f" [{', '.join(limits)}]" if limits else ""
    return f"{shown}{interval}".replace("-", "−")


def change_of(row: ladders.Followed) -> str:
    """A change of an outcome, in its unit."""
    change = row.along.change
    if not np.isfinite(change.mean):
        return "–"
    ends = [] if change.why else [change.low, change.high]
    return row.outcome.size(change.mean, *ends)


def range_of(tables: list[np.ndarray], least: float) -> tuple[tuple[float, float], bool]:
    """(the ends of an axis that holds all finite values, whether it is logarithmic).

    `least`: what the axis spans at least, so that noise does not look like an effect.
    """
    values = np.concatenate([table.ravel() for table in tables])
    values = values[np.isfinite(values)]
    if not len(values):
        return (0, 1), False
    low, high = values.min(), values.max()
    wanting = max(0, least - (high - low)) / 2
    low, high = low - wanting, high + wanting
    if high > FAR_APART * low > 0:
        return (low / 1.3, high * 1.3), True
    room = 0.08 * (high - low) or 0.1 * abs(high) or 0.1
    return (low - room, high + room), False
