"""Below the answer its picture, a row of panels a ladder; without ladders a sentence an outcome."""

import numpy as np

from eval.report import ladders
from eval.report.cells import least_to_most, with_ends
from eval.report.fixed_in_advance import MEASURES, Measure, Outcome
from eval.report.ladders import CANNOT_TELL
from eval.report.page import Page
from eval.report.panels import Line, Panel, range_of
from eval.report.sections import correlations
from eval.report.statistics import Estimate
from eval.report.study import Study, capitalized
from eval.report.styles import BLUE, ORANGE
from eval.report.verdicts import OUTCOMES as CORRELATED

# Groups of a file of finetuning, from which outcomes are read.
OF_OUTCOMES = ("test", "train", "distance_relative", "source")


def add(study: Study, page: Page):
    """The picture of the ladders; without any, a sentence for each outcome of the correlations."""
    if study.found:
        add_picture(study, page)
    elif study.tests:
        for outcome, text in correlations.findings(study).items():
            page.finding(capitalized(CORRELATED[outcome][0]), text)


def add_picture(study: Study, page: Page):
    """A row of panels a ladder: each measure of robustness and each outcome against the rung."""
    rows = {
        f"{ladder.name}: {' → '.join(ladder.rungs)}": panels(study, ladder)
        for ladder in study.found.ladders
    }
    alike(list(rows.values()), study.found.ladders)
    seeds = least_to_most(len(row.along.seeds) for row in study.found.every_row)
    page.picture(
        "ladders",
        rows,
        "",
        "A row is a ladder: settings along one knob, its rungs, from left to right; one scale "
        "for all ladders. Thin: a seed; thick: their mean. Blue: measures of robustness; orange: "
        "outcomes of finetuning. Above each the change from the first rung to the last along each "
        f"seed's straight line, with Student's 95 % interval; n = {seeds} seeds.",
        [*study.passports, *(study.asked.results if study.asked else [])],
        [*study.measured_by(MEASURES), *OF_OUTCOMES],
        on_top=True,
    )


def alike(rows: list[list[Panel]], climbed: list[ladders.Ladder]):
    """Gives the panels of one quantity one scale in all ladders."""
    of_ladders = [[*ladder.measures, *ladder.outcomes] for ladder in climbed]
    for column, quantities in zip(zip(*rows), zip(*of_ladders)):
        first = quantities[0]
        least = 2 * first.outcome.margin if isinstance(first, ladders.Followed) else 0
        numbers = np.concatenate([row.along.by_seed.ravel() for row in quantities])
        limits, log = range_of(numbers, least)
        for panel in column:
            panel.y_limits, panel.log_y = limits, log


def panels(study: Study, ladder: ladders.Ladder) -> list[Panel]:
    """The panels of one ladder."""
    return [
        *(
            climb(study, ladder, row, row.measure, capitalized(row.measure.against), BLUE)
            for row in ladder.measures
        ),
        *(
            climb(study, ladder, row, row.outcome, capitalized(row.outcome.words), ORANGE)
            for row in ladder.outcomes
        ),
    ]


def climb(
    study: Study,
    ladder: ladders.Ladder,
    row: ladders.Moved | ladders.Followed,
    quantity: Measure | Outcome,
    title: str,
    colour: str,
) -> Panel:
    """One quantity along one ladder: a thin line a seed, a thick one for their mean."""
    by_seed, along = row.along.by_seed, row.along
    rungs = np.arange(1, len(ladder.rungs) + 1)
    thin = {"color": colour, "lw": 0.6, "alpha": 0.5}
    lines = [
        Line(rungs, values, thin, f"seed {seed}: {in_words(values)}")
        for seed, values in zip(along.seeds, by_seed)
    ]
    finite = np.isfinite(by_seed).all(0) if len(by_seed) else np.zeros(len(rungs), bool)
    if finite.any():
        means = by_seed[:, finite].mean(0)
        thick = {"color": colour, "lw": 2.2, "marker": "o", "markersize": 3.5}
        words = f"means by rung {in_words(means)}"
        lines.append(Line(rungs[finite], means, thick, words))
    told = row.moved if isinstance(row, ladders.Moved) else row.verdict != CANNOT_TELL
    change = sized(along.change) if isinstance(row, ladders.Moved) else change_of(row)
    return Panel(
        title,
        f"{row.words}: {change}",
        told,
        lines,
        shown=quantity.shown,
        x_limits=(0.7, len(rungs) + 0.3),
        ticks=rungs,
        tick_words=list(map(short, ladder.rungs)),
    )


def short(rung: str) -> str:
    """The value of a rung's first flag, 5e-4 of adam@lr_5e-4@epochs_7; without flags its name."""
    first_flag = rung.partition("@")[2].partition("@")[0]
    return (first_flag.rpartition("_")[2] or rung)[:8]


def in_words(values) -> str:
    """Numbers with commas between them."""
    return ", ".join(f"{value:.3g}" for value in values)


def sized(change: Estimate) -> str:
    """A change of a measure, with its interval where it has one, else why there is none."""
    why = f" ({change.why})" if change.why and np.isfinite(change.mean) else ""
    return with_ends(*change.numbers, sign="+") + why


def change_of(row: ladders.Followed) -> str:
    """A change of an outcome, in its unit."""
    return in_unit(row.outcome, row.along.change)


def in_unit(outcome: Outcome, estimate: Estimate) -> str:
    """An estimate in the unit of an outcome, with its interval, else why there is none."""
    why = f" ({estimate.why})" if estimate.why and np.isfinite(estimate.mean) else ""
    return outcome.size(*estimate.numbers) + why
