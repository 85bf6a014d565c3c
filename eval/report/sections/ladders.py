"""Ladders: what each moved, what finetuning did with it, what speaks for and against that, and what
ladders say together.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from eval.report import cells, ladders, reliability
from eval.report.agreements import Agreement, Slope
from eval.report.fixed_in_advance import CLEAN_ACCURACY, MEASURES, OUTCOMES, TRAIN_LOSS
from eval.report.ladders import Along, Followed, Ladder
from eval.report.page import Page
from eval.report.sections.picture import change_of, sized
from eval.report.statistics import Estimate
from eval.report.study import Study, capitalized

OUTCOME_OF = {outcome.key: outcome for outcome in OUTCOMES}
MEASURE_OF = {measure.key: measure for measure in MEASURES}


def add(study: Study, page: Page):
    """For each ladder a sentence an outcome, its table and the checks; then ladders together."""
    if not study.found:
        return
    page.heading("Ladders")
    page.folded("How ladders are judged", ladders.METHOD)
    for ladder in study.found.ladders:
        add_ladder(page, ladder)
    add_together(study, page)
    add_others(study, page)


def add_ladder(page: Page, ladder: Ladder):
    """One ladder: words, the table by rung, the checks of each row."""
    page.paragraph(ladders.robustness(ladder))
    if ladder.caution:
        page.paragraph(f"Caution: {ladder.caution}")
    page.table(
        by_rung(ladder),
        f"{ladder.name}: means over the seeds that have every rung. Change: from the first rung to "
        f"the last along each seed's straight line [Student's 95 % interval]. {under(ladder)}",
    )
    page.table(
        cells.turned(checks(ladder)),
        "Without one seed: the least and the largest change when each seed is left out. Detectable "
        "and smallest margin: sizes, no verdicts. Given: what remains of the change where the "
        "covariate does not change, and its share along the rungs; description. Reliability: "
        f"split-half, within seeds; below {reliability.LEAST} a measure is not said to have moved.",
        fold=f"{ladder.name}: how sure each of these is",
    )


def under(ladder: Ladder) -> str:
    """Under which statistics of BatchNorm the measures were taken, in a sentence."""
    kinds = {row.batchnorm for row in ladder.measures}
    if len(kinds) == 1:
        return f"Measured under {kinds.pop()} statistics of BatchNorm."
    stored = [row.measure.against for row in ladder.measures if row.batchnorm == "stored"]
    return (
        "Measured under recomputed statistics of BatchNorm; robustness to "
        f"{', '.join(stored)} under stored ones, because the study has no other."
    )


def by_rung(ladder: Ladder) -> Iterator[list]:
    """Lines of a table: a column a rung, then the change and what is said of it."""
    yield ["", *ladder.rungs, "change [95 %]", "verdict", "n"]
    yield ["Trained"]
    yield [TRAIN_LOSS.words, *map(cells.number, ladder.train_loss), "", "", ""]
    yield [CLEAN_ACCURACY.words, *map(cells.number, ladder.clean_accuracy), "", "", ""]
    yield ["Did the knob move robustness?"]
    for row in ladder.measures:
        yield [
            row.measure.words,
            *map(cells.number, row.along.by_rung),
            sized(row.along.change),
            row.words,
            len(row.along.seeds),
        ]
    yield ["Did finetuning follow?"]
    for row in ladder.outcomes:
        never = f" ({row.never} minima never: the last epoch + 1)" if row.never else ""
        of_mean = ", of the ladder's mean" if row.outcome.relative else ""
        yield [
            f"{row.outcome.words}{of_mean}{never}",
            *map(cells.number, row.along.by_rung),
            change_of(row),
            row.words,
            len(row.along.seeds),
        ]


def checks(ladder: Ladder) -> Iterator[list]:
    """Columns of a table: what stands beside each verdict."""
    covariates = list(ladders.COVARIATES)
    yield [
        "",
        "verdict",
        "why these data cannot tell",
        "p",
        "Holm p",
        "permuted p",
        "bend [95 %]",
        "without one seed",
        "seeds left out",
        "reliability",
        "detectable",
        "margin",
        "smallest margin",
        *(f"given {words} [95 %]" for words in covariates),
    ]
    for row in ladder.measures:
        common = in_common(row.along, "–")
        said = row.words, row.why or "–"
        yield [
            capitalized(row.measure.against),
            *said,
            *common,
            number(row.reliability),
            *["–"] * 5,
        ]
    for row in ladder.outcomes:
        size = row.outcome.size
        yield [
            capitalized(row.outcome.words),
            row.words,
            row.why or "–",
            *in_common(row.along, p_value(row.holm), row),
            "–",
            size(row.detectable) if np.isfinite(row.detectable) else "–",
            size(row.outcome.margin),
            size(row.bound) if np.isfinite(row.bound) else "–",
            *(given(row, words) for words in covariates),
        ]


def in_common(along: Along, holm: str, row: Followed | None = None) -> list[str]:
    """What measures and outcomes both have, in cells; `row`: of an outcome, which has a unit."""
    means = [each.mean for each in along.without.values()]
    least_and_most = [min(means), max(means)] if np.isfinite(means).all() and means else []
    if row:
        bend = in_unit(row, along.bend)
        without = " to ".join(row.outcome.size(mean) for mean in least_and_most)
    else:
        bend = sized(along.bend)
        without = " to ".join(f"{mean:+.2g}".replace("-", "−") for mean in least_and_most)
    left_out = "; ".join(f"{seed}: no {rung}" for seed, rung in along.left_out.items())
    change = along.change
    return [
        "–" if change.why else p_value(change.p),
        holm if not change.why else "–",
        p_value(along.permuted),
        bend,
        without or "–",
        left_out or "none",
    ]


def p_value(p: float) -> str:
    """A p; a dash where there is none."""
    if not np.isfinite(p):
        return "–"
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def number(value: float) -> str:
    """Two digits; a dash where there is no number."""
    return f"{value:.2f}" if np.isfinite(value) else "–"


def in_unit(row: Followed, estimate: Estimate) -> str:
    """An estimate in the unit of an outcome, with its interval."""
    if not np.isfinite(estimate.mean):
        return "–"
    ends = [] if estimate.why else [estimate.low, estimate.high]
    return row.outcome.size(estimate.mean, *ends)


def given(row: Followed, words: str) -> str:
    """What remains of a change where a covariate does not change."""
    remains = row.given[words]
    if not np.isfinite(remains.change.mean):
        return remains.change.why if np.isfinite(remains.share) else "–"
    return f"{in_unit(row, remains.change)}; {remains.share:.0%} along the rungs"


def add_together(study: Study, page: Page):
    """What ladders say together: words, agreements, slopes."""
    for text in study.found.words:
        page.paragraph(text)
    if study.found.agreements:
        page.table(
            agreements(study.found.agreements),
            "Robustness itself: the outcome followed in both ladders, alike per unit of the "
            "measure. The knob: it followed in one at least, and per unit the ladders differ. Per "
            "unit: the outcome's change divided by the measure's, whose errors both count.",
            fold="Robustness itself, or the knob? Every two ladders that moved a measure",
        )
    if study.found.slopes:
        page.table(
            slopes(study.found.slopes),
            "Outcome per unit of the measure, within seeds, over all rungs of all ladders; "
            "description.",
            fold="Outcome against measure over all ladders",
        )


def agreements(rows: Sequence[Agreement]) -> Iterator[list]:
    """Lines of a table: a group an outcome, a line a measure and two ladders."""
    yield ["", "ladders", "one, per unit", "other, per unit", "difference [95 %]", "verdict", "n"]
    for outcome in OUTCOMES:
        some = [row for row in rows if row.outcome == outcome.key]
        if some:
            yield [capitalized(outcome.words)]
        for row in some:
            yield [
                MEASURE_OF[row.measure].words,
                " and ".join(row.ladders),
                *map(sized, row.per_unit),
                sized(row.difference),
                f"{row.verdict}: {row.why}" if row.why else row.verdict,
                len(row.seeds),
            ]


def slopes(rows: Sequence[Slope]) -> Iterator[list]:
    """Lines of a table: a line a measure, a column an outcome."""
    yield ["", *(f"{outcome.words}, per unit [95 %]" for outcome in OUTCOMES), "n"]
    found = {(row.measure, row.outcome): row for row in rows}
    for measure in MEASURES:
        some = [found[measure.key, outcome.key] for outcome in OUTCOMES]
        counts = sorted({len(row.seeds) for row in some})
        seeds = " to ".join(map(str, dict.fromkeys([counts[0], counts[-1]])))
        yield [measure.words, *(sized(row.slope) for row in some), seeds]


def add_others(study: Study, page: Page):
    """Other tasks and modes of finetuning: the changes along each ladder, without a verdict."""
    if not study.found_beside:
        return
    lines = [["", "ladder", *(f"{outcome.words} [95 %]" for outcome in OUTCOMES), "n"]]
    for label, found in study.found_beside.items():
        for ladder in found.ladders:
            seeds = max(len(row.along.seeds) for row in ladder.outcomes)
            changes = [moved_at_all(row) for row in ladder.outcomes]
            lines.append([label, ladder.name, *changes, seeds])
    page.table(
        lines,
        "Description: no part of the family that was fixed in advance, which is about "
        f"{study.asked.label} finetuning. Change from the first rung to the last.",
    )


def moved_at_all(row: Followed) -> str:
    """The change of an outcome; a dash where it is 0 for all minima, as a probe's distance is."""
    return change_of(row) if np.any(row.along.by_seed) else "–"
