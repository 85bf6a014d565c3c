"""The answer, on top of the page: of the ladders where there are some, else of the correlations
within settings.
"""

from collections.abc import Iterator

import numpy as np

from eval.report import agreements, ladders
from eval.report.agreements import ITSELF, KNOB
from eval.report.fixed_in_advance import LEAST_RUNGS, LEAST_SEEDS, OUTCOMES
from eval.report.ladders import FALLS, NO_MORE, RISES
from eval.report.page import Page
from eval.report.sections import correlations, repetition
from eval.report.sections.picture import change_of
from eval.report.study import Study, capitalized

FIRST = OUTCOMES[0]  # the outcome that the sentences on top are about
CLEAN = "clean test accuracy"  # one of its covariates


def add(study: Study, page: Page):
    """The answer in a sentence or two."""
    if text := answer(study):
        page.lead(text, "answer")


def add_grounds(study: Study, page: Page):
    """Of ladders, what the answer rests on; without any, how small an effect would be found."""
    words = under_the_answer(study) if study.found else [study.enough]
    if text := " ".join(words).strip():
        page.lead(text, "")


def answer(study: Study) -> str:
    """The answer in a sentence or two; "" where there is nothing to answer from."""
    if not study.found:
        return correlations.answer(study) if study.tests else ""
    found = study.found
    if not (found.ladders and found.ladders[0].outcomes):
        return "These data cannot tell: nothing was finetuned."
    words = [opening(found), *map(along, found.ladders)]
    return " ".join(word for word in words if word)


def grounds(found: agreements.Findings) -> str:
    """What each ladder did to robustness, and whether it is that which the outcome follows."""
    moved = [
        f"The ladder {ladder.name} made minima {'; '.join(became(ladder))}."
        for ladder in found.ladders
        if ladder.moved
    ]
    return " ".join([*moved, closing(found)]).strip()


def under_the_answer(study: Study) -> list[str]:
    """The grounds, and what stands beside them as description."""
    words = (
        grounds(study.found),
        repetition.sentence(study),
        given(study.found),
        *beside(study),
        study.enough,
    )
    return [text for text in words if text]


def given(found: agreements.Findings) -> str:
    """How much of the first outcome's change is left where clean accuracy does not change."""
    left = []
    for ladder in found.ladders:
        if ladder.outcomes and not first(ladder).along.change.why:
            rest = first(ladder).given[CLEAN].change
            if not rest.why:
                left.append(f"{FIRST.size(*rest.numbers)} along {ladder.name}")
    return f"At equal clean test accuracy a change of {listed(left)} is left." if left else ""


def beside(study: Study) -> Iterator[str]:
    """What ladders show in other finetunings, a sentence each: description, no verdict."""
    for label, found in study.found_beside.items():
        changes = [
            f"{change_of(first(ladder))} along {ladder.name}"
            for ladder in found.ladders
            if np.isfinite(first(ladder).along.change.mean)
        ]
        if changes:
            yield f"{capitalized(label)}: {FIRST.words} changes by {listed(changes)}."


def lines(study: Study) -> list[str]:
    """The answer as it is printed on the terminal."""
    if study.found:
        rows = [row for ladder in study.found.ladders for row in in_lines(ladder)]
        words = answer(study), *under_the_answer(study)
        return [text for text in words if text] + [f"  {row}" for row in rows]
    if not study.tests:
        return []
    found = correlations.findings(study)
    return [answer(study), *(f"  {outcome}: {text}" for outcome, text in found.items())]


def in_lines(ladder: ladders.Ladder) -> Iterator[str]:
    """What one ladder shows, for the terminal: what it moved, then a line an outcome."""
    moved = "; ".join(became(ladder)) or "no measure of robustness is known to have moved"
    yield f"{ladder.name}, {ladder.rungs[0]} to {ladder.rungs[-1]}: {moved}"
    for row in ladder.outcomes:
        p = f", Holm p = {row.holm:.2g}" if not row.along.change.why else ""
        why = f" ({row.why})" if row.why else ""
        yield f"  {row.outcome.words}: {row.words}{why}; change {change_of(row)}{p}"


def opening(found: agreements.Findings) -> str:
    """A word or two, where all ladders together bear them."""
    alike, apart = agreed(found, ITSELF), agreed(found, KNOB)
    if alike:
        return "Yes." if is_better(alike[0]) else "No, the other way round."
    if apart:
        return "It depends on how they become more robust."
    told = [first(ladder).verdict for ladder in found.ladders if ladder.moved]
    if set(told) == {NO_MORE}:
        return "No."
    return "" if {RISES, FALLS} & set(told) else "These data cannot tell."


def agreed(found: agreements.Findings, verdict: str) -> list[agreements.Agreement]:
    """What two ladders say together of the first outcome, where it is `verdict`."""
    rows = [row for row in found.agreements if row.outcome == FIRST.key]
    refuted = {row.measure for row in rows if row.verdict == KNOB}
    return [
        row
        for row in rows
        if row.verdict == verdict and (verdict == KNOB or row.measure not in refuted)
    ]


def is_better(row: agreements.Agreement) -> bool:
    """Whether finetuning becomes better where minima become more robust."""
    (measure,) = [each for each in ladders.MEASURES if each.key == row.measure]
    rises = (row.per_unit[0].mean > 0) == measure.more_is_robust
    return rises == FIRST.more_is_better


def first(ladder: ladders.Ladder) -> ladders.Followed:
    """The outcome that the sentences on top are about."""
    (row,) = [row for row in ladder.outcomes if row.outcome.key == FIRST.key]
    return row


def along(ladder: ladders.Ladder) -> str:
    """What one ladder shows, in a sentence."""
    row, start = first(ladder), f"Along {ladder.name}"
    rungs, seeds = len(ladder.rungs), len(row.along.seeds)
    if rungs < LEAST_RUNGS or seeds < LEAST_SEEDS:
        return (
            f"{start} there are {rungs} settings x {seeds} seeds, too few for a verdict: it takes "
            f"{LEAST_RUNGS} x {LEAST_SEEDS}."
        )
    if not ladder.moved:
        return f"{start} no measure of robustness is known to have moved: it says nothing."
    return f"{start} {who(ladder)} {followed(row)}.{confounded(ladder)}"


def confounded(ladder: ladders.Ladder) -> str:
    """A sentence where what followed cannot be told apart from clean accuracy; else ""."""
    row, clean = first(ladder), ladder.clean_accuracy
    if row.verdict not in (RISES, FALLS) or not row.given[CLEAN].change.why:
        return ""
    return (
        f" But clean test accuracy goes along, from {clean[0]:.2f} to {clean[-1]:.2f}: which of "
        "the two finetuning follows, these data cannot tell."
    )


def who(ladder: ladders.Ladder) -> str:
    """More robust minima; minima more robust to this, and less to that."""
    ways = became(ladder)
    if len(ways) == 1:
        return f"{ways[0].partition(' to ')[0]} minima"
    return f"minima {ways[0]}, and {ways[1].replace('less robust', 'less', 1)},"


def became(ladder: ladders.Ladder) -> list[str]:
    """What minima become along a ladder: more robust to this, less robust to that."""
    parts = []
    for words in "more robust", "less robust":
        against = [row.measure.against for row in ladder.measures if row.words == words]
        if against:
            parts.append(f"{words} to {listed(against)}")
    return parts


def followed(row: ladders.Followed) -> str:
    """What finetuning does with it."""
    words, change = row.outcome.words, row.along.change
    if row.verdict in (RISES, FALLS):
        sign = 1 if row.verdict == RISES else -1
        low, high = sorted([sign * change.low, sign * change.high])
        size = row.outcome.size(sign * change.mean, low, high)
        sure = f"95 % interval, {len(row.along.seeds)} seeds"
        return f"finetune {row.better}: {words} {row.verdict} by {size} ({sure})"
    if row.verdict == NO_MORE:
        return f"finetune alike: {words} changes by {row.words}"
    size = f": {words} changes by {change_of(row)}" if not change.why else ""
    return f"may or may not finetune better{size} ({row.why})"


def closing(found: agreements.Findings) -> str:
    """Robustness itself, or the knob; nothing where no ladder is followed."""
    told = {first(ladder).verdict for ladder in found.ladders}
    alike, apart = (against(agreed(found, verdict)) for verdict in (ITSELF, KNOB))
    parts = []
    if alike:
        parts.append(f"it is robustness itself, to {listed(alike)}, as the ladders agree per unit")
        if len(alike) > 1:
            parts.append("which of these, they cannot tell")
    if apart:
        parts.append(
            f"{'it is not' if alike else 'it is the knob, not'} robustness to {listed(apart)}: per "
            "unit of it the ladders differ"
        )
    if untold := [each for each in moved(found) if each not in alike + apart]:
        parts.append(f"whether it is robustness to {listed(untold)}, they cannot tell")
    if alike or apart:
        return f"{capitalized('; '.join(parts))}."
    if not {RISES, FALLS} & told:
        return ""
    if len(found.ladders) == 1:
        (only,) = found.ladders
        return (
            f"One ladder cannot tell whether that is robustness or whatever else {only.name} "
            "changes."
        )
    return "Whether that is robustness itself or the knob, these ladders cannot tell."


def moved(found: agreements.Findings) -> list[str]:
    """What robustness is to, of the measures that a ladder moved."""
    keys = {key for ladder in found.ladders for key in ladder.moved}
    return [measure.against for measure in ladders.MEASURES if measure.key in keys]


def against(rows: list[agreements.Agreement]) -> list[str]:
    """What robustness is to, of some agreements, each once, in the order of the measures."""
    keys = {row.measure for row in rows}
    return [measure.against for measure in ladders.MEASURES if measure.key in keys]


def listed(words: list[str]) -> str:
    """a, b and c."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last
