"""What several ladders say together: is it robustness itself, or what else a knob moves?

Two ladders of different knobs that moved one measure of robustness: where the outcome changes alike
per unit of it, robustness itself may carry the effect; where not, the knob does.

    found = agreements.findings(values, {"lr": ["adam@lr_5e-4", "adam"], …}, finetuning, halves)
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from eval.report import contrasts, ladders, statistics
from eval.report.fixed_in_advance import ALIKE, MEASURES, OUTCOMES, Outcome
from eval.report.ladders import CANNOT_TELL, FALLS, NO_MORE, RISES, Along, Followed, Ladder, Moved
from eval.report.reading import Finetuning
from eval.report.statistics import Estimate
from eval.report.table import Values

ITSELF, KNOB = "robustness itself", "the knob, not its robustness"
NO_DIFFERENCE = "no difference"

ONE_LADDER = (
    "One ladder cannot tell measures of robustness apart, nor robustness from whatever else its "
    "knob moves: that takes a second ladder, of another knob."
)


@dataclass(frozen=True)
class Slope:
    """Outcome per unit of a measure, over all rungs of all ladders, within seeds: description."""

    measure: str
    outcome: str
    seeds: list[int]
    slope: Estimate


@dataclass(frozen=True)
class Agreement:
    """Two ladders that moved one measure: does the outcome change alike per unit of it?"""

    ladders: tuple[str, str]
    measure: str
    outcome: str
    seeds: list[int]
    per_unit: tuple[Estimate, Estimate]  # the outcome's change / the measure's, of either ladder
    difference: Estimate
    verdict: str  # ITSELF, KNOB, NO_DIFFERENCE or CANNOT_TELL
    why: str


@dataclass(frozen=True)
class Findings:
    """What all ladders of a study show."""

    ladders: list[Ladder]
    slopes: list[Slope]
    agreements: list[Agreement]
    words: list[str]  # what ladders together say, a sentence each

    @property
    def every_row(self) -> list[Moved | Followed]:
        """All measures and outcomes of all ladders."""
        return [row for each in self.ladders for row in (*each.measures, *each.outcomes)]


def findings(
    values: Values,
    rungs: dict[str, list[str]],
    finetuning: Finetuning | None,
    halves: Values | None = None,
    outcomes: Sequence[Outcome] = OUTCOMES,
) -> Findings:
    """What ladders, {name: [setting of each rung]}, show in the outcomes of one finetuning.

    `halves`: values of halves of the images and draws (reliability.values).
    SystemExit with one line where two minima are of one setting and seed.
    """
    climbed = ladders.climbed(values, rungs, finetuning, halves, outcomes)
    found = list(_agreements(climbed))
    return Findings(
        climbed,
        list(_slopes(values, climbed, finetuning)),
        found,
        list(_together(found)) if len(climbed) > 1 else [ONE_LADDER] * len(climbed),
    )


def _slopes(
    values: Values, climbed: list[Ladder], finetuning: Finetuning | None
) -> Iterator[Slope]:
    """Outcome against measure over all rungs of all ladders, within seeds."""
    if len(climbed) < 2 or finetuning is None:
        return
    # Ladders may share a rung, which counts once.
    settings = list(dict.fromkeys(rung for ladder in climbed for rung in ladder.rungs))
    minima = ladders.minima_of(values, settings)
    for outcome, measure in itertools.product(OUTCOMES, MEASURES):
        x, _ = ladders.column(values, minima, measure)
        y, _ = ladders.outcome_of(values, minima, finetuning, outcome)
        keep = np.isfinite(x + y).all(1)
        found = contrasts.slopes(x[keep], y[keep])
        seeds = minima.index[keep].tolist()
        yield Slope(measure.key, outcome.key, seeds, statistics.estimate(found))


def _agreements(climbed: list[Ladder]) -> Iterator[Agreement]:
    """Every two ladders, for each measure that both moved and each outcome."""
    for one, other in itertools.combinations(climbed, 2):
        for first, second in zip(one.measures, other.measures):
            if first.moved and second.moved:
                for outcomes in zip(one.outcomes, other.outcomes):
                    if _seeds_of(first, second, *outcomes):
                        yield _agreement((one.name, other.name), (first, second), outcomes)


def _seeds_of(*rows: Moved | Followed) -> list[int]:
    """The seeds that have all of these, on every rung."""
    first, *others = (row.along.seeds for row in rows)
    return [seed for seed in first if all(seed in other for other in others)]


def _agreement(
    names: tuple[str, str], measures: tuple[Moved, Moved], outcomes: tuple[Followed, Followed]
) -> Agreement:
    """Two ladders, a measure that both moved, an outcome: seeds that have all four."""
    seeds = _seeds_of(*measures, *outcomes)
    x_one, x_other, y_one, y_other = (_changes(row.along, seeds) for row in (*measures, *outcomes))
    one, other = contrasts.per_unit(y_one, x_one), contrasts.per_unit(y_other, x_other)
    told = [row.verdict for row in outcomes]
    verdict, why = judge_agreement(one, other, told)
    return Agreement(
        names,
        measures[0].measure.key,
        outcomes[0].outcome.key,
        seeds,
        (statistics.estimate(one), statistics.estimate(other)),
        statistics.estimate(one - other),
        verdict,
        why,
    )


def _changes(row: Along, seeds: list[int]) -> np.ndarray:
    """The changes (S,) of some of its seeds."""
    by_seed = dict(zip(row.seeds, row.changes))
    return np.array([by_seed[seed] for seed in seeds], float)


def judge_agreement(one: np.ndarray, other: np.ndarray, told: list[str]) -> tuple[str, str]:
    """(verdict, why it cannot be told) of two ladders that moved one measure.

    `one`, `other` (S,): the outcome's change per unit of the measure (contrasts.per_unit); `told`:
    the outcome's verdict in either ladder. Robustness itself: the outcome followed in both, in the
    same direction per unit, and the 90 % interval of the difference lies within ALIKE of their
    mean. The knob: it followed in one at least, and the 95 % interval of the difference excludes
    0. Either whichever seed is left out.
    """
    difference = one - other
    full, without = statistics.estimate(difference), contrasts.without_each(difference)
    followed = [verdict in (RISES, FALLS) for verdict in told]
    means = one.mean(), other.mean()
    margin = ALIKE * abs(np.mean(means))
    if any(followed) and contrasts.keeps_its_sign(full, without):
        return KNOB, ""
    alike = contrasts.stays_within(full, without, margin)
    if all(followed) and np.prod(means) > 0 and alike:
        return ITSELF, ""
    if all(verdict == NO_MORE for verdict in told):
        return NO_DIFFERENCE, ""
    if not any(followed):
        return CANNOT_TELL, "the outcome followed in neither ladder"
    return CANNOT_TELL, "their effects per unit are neither alike nor apart"


def _together(agreements: list[Agreement]) -> Iterator[str]:
    """What ladders together say of each outcome, a sentence an outcome."""
    for outcome in OUTCOMES:
        found = {}
        for measure in MEASURES:
            told = [
                row.verdict
                for row in agreements
                if (row.outcome, row.measure) == (outcome.key, measure.key)
            ]
            # What carries an effect carries it in all ladders: two that differ are enough.
            for verdict in KNOB, ITSELF, NO_DIFFERENCE:
                if verdict in told:
                    found.setdefault(verdict, []).append(measure.words)
                    break
        yield f"{outcome.words.capitalize()}: {_sentence(found)}."


def _sentence(found: dict[str, list[str]]) -> str:
    """What ladders say of one outcome; `found`: {verdict: [words of its measures]}."""
    parts = []
    if alike := found.get(ITSELF):
        parts.append(f"{ITSELF}, as these ladders agree: {ladders.listed(alike)}")
        if len(alike) > 1:
            parts.append("which of them it is, these ladders cannot tell")
    if apart := found.get(KNOB):
        parts.append(f"{KNOB}, as ladders differ per unit: {ladders.listed(apart)}")
    if none := found.get(NO_DIFFERENCE):
        parts.append(f"{NO_DIFFERENCE} beyond the margin where it moved: {ladders.listed(none)}")
    return "; ".join(parts) or f"{CANNOT_TELL} whether it is robustness itself or the knob"
