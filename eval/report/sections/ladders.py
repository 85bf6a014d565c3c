"""Ladders: what each knob moved, what finetuning did with it, whether ladders agree; under each
picture its numbers, and what speaks for and against them.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from eval.report import cells, ladders, reliability
from eval.report.agreements import Agreement, Slope
from eval.report.fixed_in_advance import CLEAN_ACCURACY, MEASURES, OUTCOMES, TRAIN_LOSS
from eval.report.ladders import CANNOT_TELL, NO_MORE, Along, Followed, Ladder, Moved
from eval.report.page import Page, Table
from eval.report.panels import Interval, Line, Panel, Point
from eval.report.sections.answer import FIRST, became, listed
from eval.report.sections.picture import OF_OUTCOMES, change_of, in_unit, sized
from eval.report.study import Study, capitalized
from eval.report.styles import DOWN, OPEN, SAME, UP, Style, styles

MEASURE_OF = {measure.key: measure for measure in MEASURES}
ROBUST = {"more robust": UP, "less robust": DOWN, CANNOT_TELL: OPEN}
FINETUNED = {
    "finetunes better": UP,
    "finetunes worse": DOWN,
    "no more than the margin": SAME,
    CANNOT_TELL: OPEN,
}


def add(study: Study, page: Page):
    """Three pictures, each over its tables: moved, followed, alike per unit."""
    if not study.found:
        return
    page.heading("Ladders")
    page.folded("How ladders are judged", ladders.METHOD)
    for ladder in study.found.ladders:
        if ladder.caution:
            page.paragraph(f"Caution, {ladder.name}: {ladder.caution}")
    add_moved(study, page)
    if study.asked:
        add_followed(study, page)
        add_slopes(study, page)


def add_moved(study: Study, page: Page):
    """Did the knob move robustness? A panel a measure, a row a ladder."""
    climbed = study.found.ladders
    moved = [f"{each.name}: {'; '.join(became(each)) or 'nothing known'}" for each in climbed]
    panels = [
        Panel(
            capitalized(rows[0].measure.against),
            intervals=[of_measure(study, *pair) for pair in zip(climbed, rows)],
            x_label=f"change of {rows[0].measure.shown}",
            zero=True,
            down=not rows[0].measure.more_is_robust,
        )
        for rows in zip(*(ladder.measures for ladder in climbed))
    ]
    page.picture(
        "ladders_moved",
        panels,
        f"What each knob moved. Minima become along {'. Along '.join(moved)}.",
        f"{intervals(study)} More robust is to the right: less loss gained, a larger square.",
        study.passports,
        study.measured_by(MEASURES),
        ROBUST,
        [table for ladder in climbed for table in numbers(ladder, ladder.measures)],
    )


def numbers(ladder: Ladder, rows: Sequence[Moved | Followed]) -> list[Table]:
    """The numbers by rung, and how sure they are."""
    by_rungs = Table(f"{ladder.name}: by rung", by_rung(ladder, rows), about(ladder))
    return [by_rungs, sure(ladder, rows)]


def intervals(study: Study) -> str:
    """What the intervals are."""
    seeds = cells.least_to_most(len(row.along.seeds) for row in study.found.every_row)
    return (
        "Change from the first rung to the last, with Student's 95 % interval over seeds, n = "
        f"{seeds}; colour and shape are the verdict."
    )


def of_measure(study: Study, ladder: Ladder, row: Moved) -> Interval:
    """The row of one ladder in the panel of a measure."""
    change = row.along.change
    words = f"{ladder.name}: {row.words}, {sized(change)}"
    where = study.links.get(ladder.rungs[-1], "")
    label = f"{ladder.name}: {row.words}"
    ends = change.mean, change.low, change.high
    return Interval(label, *ends, ROBUST[row.words], words, where)


def add_followed(study: Study, page: Page):
    """Did finetuning follow? A panel an outcome, a row a ladder."""
    climbed = study.found.ladders
    panels = [
        Panel(
            capitalized(rows[0].outcome.words),
            intervals=[of_outcome(study, *pair) for pair in zip(climbed, rows)],
            x_label=f"change, {rows[0].outcome.unit}",
            zero=True,
            down=not rows[0].outcome.more_is_better,
            inside=rows[0].outcome.margin * rows[0].outcome.scale,
        )
        for rows in zip(*(ladder.outcomes for ladder in climbed))
    ]
    tables = [table for ladder in climbed for table in numbers(ladder, ladder.outcomes)]
    page.picture(
        "ladders_followed",
        panels,
        f"What finetuning did with it. {' '.join(map(told, climbed))}",
        f"{intervals(study)} Better is to the right. Grey: the margin, within which a change makes "
        "no difference in practice. An interval beyond 0 may be no verdict yet: that takes Holm's "
        "correction over all of them, and holds whichever seed is left out.",
        study.asked.results,
        OF_OUTCOMES,
        legend=FINETUNED,
        tables=[*tables, *others(study)],
    )


def of_outcome(study: Study, ladder: Ladder, row: Followed) -> Interval:
    """The row of one ladder in the panel of an outcome."""
    change, scale = row.along.change, row.outcome.scale
    words = f"{ladder.name}: {row.words}, {change_of(row)}"
    ends = [scale * end for end in (change.mean, change.low, change.high)]
    look, where = look_of(row), study.links.get(ladder.rungs[-1], "")
    return Interval(f"{ladder.name}: {row.words}", *ends, look, words, where)


def look_of(row: Followed) -> Style:
    """Colour and shape of a verdict."""
    if row.better:
        return FINETUNED[f"finetunes {row.better}"]
    return SAME if row.verdict == NO_MORE else OPEN


def told(ladder: Ladder) -> str:
    """What of finetuning is told along one ladder, in a sentence."""
    words = [
        f"{row.outcome.words} {'changes by ' * (row.verdict == NO_MORE)}{row.words}"
        for row in ladder.outcomes
        if row.verdict != CANNOT_TELL
    ]
    return f"Along {ladder.name} {listed(words) if words else 'these data cannot tell'}."


def about(ladder: Ladder) -> str:
    """What the numbers by rung are."""
    return (
        "Means over the seeds that have every rung. Change: from the first rung to the last along "
        f"each seed's straight line [Student's 95 % interval]. {under(ladder)}"
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


def by_rung(ladder: Ladder, rows: Sequence[Moved | Followed]) -> Iterator[list]:
    """Lines of a table: a column a rung, then the change and what is said of it."""
    yield ["", *ladder.rungs, "change [95 %]", "verdict", "n"]
    yield [TRAIN_LOSS.words, *map(cells.number, ladder.train_loss), "", "", ""]
    yield [CLEAN_ACCURACY.words, *map(cells.number, ladder.clean_accuracy), "", "", ""]
    for row in rows:
        shown = row.along, row.words
        if isinstance(row, Moved):
            yield line_of(row.measure.words, sized(row.along.change), *shown)
        else:
            never = f" ({row.never} minima never: the last epoch + 1)" if row.never else ""
            of_mean = ", of the ladder's mean" if row.outcome.relative else ""
            yield line_of(f"{row.outcome.words}{of_mean}{never}", change_of(row), *shown)


def line_of(title: str, change: str, along: Along, words: str) -> list:
    """One quantity by rung."""
    return [title, *map(cells.number, along.by_rung), change, words, len(along.seeds)]


def sure(ladder: Ladder, rows: Sequence[Moved | Followed]) -> Table:
    """What stands beside each verdict."""
    caption = (
        "Without one seed: the least and the largest change when each seed is left out. Bend: how "
        "far the middle lies above the straight line. Permuted p: when rungs are permuted within "
        "seeds."
    )
    if isinstance(rows[0], Moved):
        lines = map(checks_of_measure, rows)
        caption += (
            " Reliability: split-half, within seeds; below "
            f"{reliability.LEAST} a measure is not said to have moved."
        )
    else:
        lines = map(checks_of_outcome, rows)
        caption += (
            " Detectable, smallest margin: sizes, no verdicts. Given: what remains of the change "
            "where the covariate does not change, and its share along the rungs; description."
        )
    lines = [dict(line) for line in lines]
    columns = [[title, *(line[title] for line in lines)] for title in lines[0]]
    return Table(f"{ladder.name}: how sure each of these is", columns, caption)


def checks_of_measure(row: Moved) -> Iterator[tuple[str, str]]:
    """(check, its result) of a measure."""
    yield "", capitalized(row.measure.against)
    yield "verdict", row.words
    yield "why these data cannot tell", row.why or "–"
    yield from in_common(row.along, lambda number: f"{number:+.2g}".replace("-", "−"), sized)
    yield "reliability", f"{row.reliability:.2f}" if np.isfinite(row.reliability) else "–"


def checks_of_outcome(row: Followed) -> Iterator[tuple[str, str]]:
    """(check, its result) of an outcome."""
    size = row.outcome.size
    yield "", capitalized(row.outcome.words)
    yield "verdict", row.words
    yield "why these data cannot tell", row.why or "–"
    yield "Holm p", p_value(row.holm) if not row.along.change.why else "–"
    yield from in_common(row.along, size, lambda estimate: in_unit(row.outcome, estimate))
    yield "detectable", size(row.detectable)
    yield "margin", size(row.outcome.margin)
    yield "smallest margin", size(row.bound)
    for words in ladders.COVARIATES:
        yield f"given {words} [95 %]", given(row, words)


def in_common(along: Along, size, interval) -> Iterator[tuple[str, str]]:
    """What measures and outcomes both have; `size` and `interval` write numbers and estimates."""
    means = [each.mean for each in along.without.values()]
    known = bool(means) and np.isfinite(means).all()
    left_out = "; ".join(f"{seed}: no {rung}" for seed, rung in along.left_out.items())
    yield "p", "–" if along.change.why else p_value(along.change.p)
    yield "permuted p", p_value(along.permuted)
    yield "bend [95 %]", interval(along.bend)
    yield "without one seed", f"{size(min(means))} to {size(max(means))}" if known else "–"
    yield "seeds left out", left_out or "none"


def p_value(p: float) -> str:
    """A p; a dash where there is none."""
    if not np.isfinite(p):
        return "–"
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def given(row: Followed, words: str) -> str:
    """What remains of a change where a covariate does not change."""
    remains = row.given[words]
    if not np.isfinite(remains.change.mean):
        return remains.change.why if np.isfinite(remains.share) else "–"
    return f"{in_unit(row.outcome, remains.change)}; {remains.share:.0%} along the rungs"


def others(study: Study) -> Iterator[Table]:
    """Other tasks and modes of finetuning: the changes along each ladder, without a verdict."""
    if not study.found_beside:
        return
    lines = [["", "ladder", *(f"{outcome.words} [95 %]" for outcome in OUTCOMES), "n"]]
    for label, found in study.found_beside.items():
        for ladder in found.ladders:
            seeds = max(len(row.along.seeds) for row in ladder.outcomes)
            changes = [moved_at_all(row) for row in ladder.outcomes]
            lines.append([label, ladder.name, *changes, seeds])
    yield Table(
        "The same for other finetuning",
        lines,
        "Description: no part of the family that was fixed in advance, which is about "
        f"{study.asked.label} finetuning. Change from the first rung to the last.",
    )


def moved_at_all(row: Followed) -> str:
    """The change of an outcome; a dash where it is 0 for all minima, as a probe's distance is."""
    return change_of(row) if np.any(row.along.by_seed) else "–"


def add_slopes(study: Study, page: Page):
    """Robustness itself, or the knob? The first outcome against each measure, a line a ladder."""
    found = study.found
    style = styles(ladder.name for ladder in found.ladders)
    panels = [
        panel
        for measure in MEASURES
        if (panel := against(study, measure.key, style)) and len(panel.lines)
    ]
    tables = []
    if found.agreements:
        tables.append(
            Table(
                "Every two ladders that moved a measure",
                agreements(found.agreements),
                "Robustness itself: the outcome followed in both ladders, alike per unit of the "
                "measure. The knob: it followed in one at least, and per unit the ladders differ. "
                "Per unit: the outcome's change divided by the measure's, whose errors both count.",
            )
        )
    if found.slopes:
        tables.append(
            Table(
                "Outcome against measure over all ladders",
                slopes(found.slopes),
                "Outcome per unit of the measure, within seeds, over all rungs of all ladders; "
                "description.",
            )
        )
    page.picture(
        "ladders_slopes",
        panels,
        "Robustness itself, or the knob? " + " ".join(found.words[:1]),
        f"Upwards: {FIRST.words}. Small: a minimum; large: the mean of a rung; n = "
        f"{len({point.link for panel in panels for point in panel.points})} minima. If robustness "
        "itself carried the effect, ladders that move it would lie on one line.",
        [*study.passports, *study.asked.results],
        [*study.measured_by(MEASURES), *OF_OUTCOMES],
        style,
        tables,
    )
    if len(found.words) > 1:
        page.folded("The same of every outcome", " ".join(found.words))


def against(study: Study, measure: str, style: dict[str, Style]) -> Panel | None:
    """The first outcome against a measure that a ladder moved; None where none did."""
    key, panel, moved = FIRST.key, Panel(MEASURE_OF[measure].against), False
    for ladder in study.found.ladders:
        (x,) = [row for row in ladder.measures if row.measure.key == measure]
        (y,) = [row for row in ladder.outcomes if row.outcome.key == key]
        minima = ladders.minima_of(study.values, ladder.rungs)
        look, seeds = style[ladder.name], [s for s in x.along.seeds if s in y.along.seeds]
        moved |= x.moved
        if not seeds:
            continue
        table = [
            np.stack([dict(zip(row.along.seeds, row.along.by_seed))[seed] for seed in seeds])
            for row in (x, y)
        ]
        small = look | {"markersize": 2, "alpha": 0.7}
        for seed, xs, ys in zip(seeds, *table):
            for name, one, other in zip(minima.loc[seed], xs, ys):
                words = f"{name}: {one:.3g}, {other:.3g}"
                panel.points.append(Point(one, other, small, words, study.links.get(name, "")))
        means = [values.mean(0) for values in table]
        words = f"{ladder.name}, means by rung: " + ", ".join(
            f"{one:.3g} and {other:.3g}" for one, other in zip(*means)
        )
        panel.lines.append(Line(*means, look, words))
    panel.title = capitalized(panel.title)
    panel.x_label = MEASURE_OF[measure].shown
    verdicts = dict.fromkeys(
        row.verdict
        for row in study.found.agreements
        if (row.measure, row.outcome) == (measure, key)
    )
    panel.said = "; ".join(verdicts) or "one ladder alone moved it"
    panel.bold = bool(verdicts) and set(verdicts) != {CANNOT_TELL}
    return panel if moved else None


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
        seeds = cells.least_to_most(len(row.seeds) for row in some)
        yield [measure.words, *(sized(row.slope) for row in some), seeds]
