"""The repetition: the same study on other images, and whether its verdicts repeat."""

from collections.abc import Iterator

import numpy as np

from eval.report import repetition
from eval.report.fixed_in_advance import Outcome
from eval.report.ladders import NO_MORE
from eval.report.page import Page, Table
from eval.report.panels import Interval, Panel
from eval.report.repetition import DIFFERS, IN_NEITHER, IN_ONE, REPEATS, Row
from eval.report.results import grouped
from eval.report.sections.picture import OF_OUTCOMES, in_unit, sized
from eval.report.statistics import Estimate
from eval.report.study import Study, capitalized
from eval.report.styles import BLUE, OPEN

THERE, HERE = OPEN, {"color": BLUE, "marker": "o"}


def sentence(study: Study) -> str:
    """Whether the verdicts of an earlier study repeat; "" where none is named."""
    if not study.repeated:
        return ""
    count = repetition.counted(study.repeated)
    words = {
        REPEATS: ("repeats", "repeat"),
        DIFFERS: ("differs", "differ"),
        IN_ONE: ("is told in one of the two alone", "are told in one of the two alone"),
        IN_NEITHER: ("is told in neither", "are told in neither"),
    }
    parts = [f"{number} {words[word][number > 1]}" for word, number in count.items() if number]
    return (
        f"The same study was made before on other images ({study.earlier.path}). Of "
        f"{sum(count.values())} verdicts {', '.join(parts)}."
    )


def add(study: Study, page: Page):
    """The outcomes' changes there and here, over the table of all that was compared."""
    if not study.repeated:
        return
    page.heading("The same study on other images")
    outcomes = [row for row in study.repeated if isinstance(row.quantity, Outcome)]
    panels = [
        Panel(
            capitalized(rows[0].quantity.words),
            intervals=[each for row in rows for each in pair(row)],
            x_label=f"change, {rows[0].quantity.unit}",
            zero=True,
            down=not rows[0].quantity.more_is_better,
            inside=rows[0].quantity.margin * rows[0].quantity.scale,
        )
        for rows in grouped(outcomes, lambda row: row.quantity.key).values()
    ]
    page.picture(
        "repetition",
        panels,
        sentence(study),
        f"There: {study.earlier.data}. Here: {study.packs}.{shared(study)} Change from the first "
        "rung to the last, with Student's 95 % interval over seeds. A verdict repeats where both "
        "studies give the same one.",
        study.asked.results if study.asked else (),
        OF_OUTCOMES,
        legend={"there": THERE, "here": HERE},
        tables=[
            Table(
                "Every measure and outcome, there and here",
                lines(study.repeated),
                "Here − there: a difference of independent seeds, with Welch's 95 % interval.",
            )
        ],
    )


def shared(study: Study) -> str:
    """How many classes of pretraining both studies have, in a sentence; "" where none is known."""
    if not study.classes:
        return ""
    both = set(study.classes).intersection(study.earlier.classes)
    return f" Of {len(study.classes)} classes of pretraining {len(both)} are the same."


def pair(row: Row) -> Iterator[Interval]:
    """The rows of an outcome in its panel, there and here."""
    for where, change, told, style in (
        ("there", row.there, row.told_there, THERE),
        ("here", row.here, row.told_here, HERE),
    ):
        label = f"{row.ladder}, {where}: {in_full(row, told)}"
        ends = [row.quantity.scale * end for end in (change.mean, change.low, change.high)]
        yield Interval(label, *ends, style, f"{label}, {size(row, change)}")


def lines(rows: list[Row]) -> Iterator[list[str]]:
    """The table: a line a ladder and quantity."""
    header = "", "there [95 %]", "here [95 %]", "here − there [95 %]"
    yield [*header, "told there", "told here", "so it"]
    for ladder, some in grouped(rows, lambda row: row.ladder).items():
        yield [ladder]
        for row in some:
            sizes = [size(row, each) for each in (row.there, row.here, row.difference)]
            told = [in_full(row, each) for each in (row.told_there, row.told_here)]
            yield [capitalized(row.quantity.words), *sizes, *told, row.verdict]


def in_full(row: Row, told: str) -> str:
    """A verdict, with its margin where it has one."""
    return f"{told} {row.quantity.size(row.quantity.margin)}" if told == NO_MORE else told


def size(row: Row, estimate: Estimate) -> str:
    """A change in the unit of its outcome; of a measure, as it is."""
    if isinstance(row.quantity, Outcome):
        return in_unit(row.quantity, estimate)
    return sized(estimate) if np.isfinite(estimate.mean) else "–"
