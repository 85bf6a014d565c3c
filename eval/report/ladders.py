"""Ladders: is robustness that was set, rung by rung, followed by better finetuning?

A ladder is an ordered list of settings along one knob; the same seeds climb every rung. What is
asked of it stands in eval/report/fixed_in_advance.py, the arithmetic in eval/report/contrasts.py;
docs/statistics.md explains both by example.

    found = ladders.climbed(values, {"lr": ["adam@lr_5e-4", "adam"], …}, finetuning, halves)

What several say together: eval/report/agreements.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from eval.report import contrasts, reliability, statistics, verdicts
from eval.report.fixed_in_advance import (
    CLEAN_ACCURACY,
    COVARIATES,
    LARGEST_SHARE,
    LEAST_RUNGS,
    LEAST_SEEDS,
    MATCHED,
    MEASURES,
    OUTCOMES,
    TRAIN_LOSS,
    Measure,
    Outcome,
)
from eval.report.reading import Finetuning
from eval.report.statistics import Estimate
from eval.report.table import Values

RISES, FALLS, NO_MORE, CANNOT_TELL = "rises", "falls", "no more than", "cannot tell"

BEYOND = "its interval reaches beyond the margin"

METHOD = (
    "A ladder is a list of settings along one knob, and the same seeds climb every rung. Change: "
    "from the first rung to the last, along each seed's straight line over the rungs' ranks; "
    "Student's t over seeds, 95 % interval. Holm p: corrected over all ladders x outcomes. Rises, "
    f"falls: Holm p < {verdicts.ALPHA}. No more than the margin, fixed in advance: the 90 % "
    "interval lies inside (two one-sided tests at 5 %). Either must hold whichever seed is left "
    f"out, and needs {LEAST_RUNGS} rungs, {LEAST_SEEDS} seeds and a ladder that moved a measure "
    "of robustness. Bend: how far the middle of the ladder lies above the line, a check of it. "
    "Permuted: p when rungs are permuted within seeds, which takes slopes that differ between "
    "seeds for an effect. Detectable: the change that as many seeds, spread as these are, find in "
    "80 of 100 simulated ladders. Given: the change that remains after a partial slope within "
    "seeds on the covariate, and its share along the rungs; description, never a verdict."
)


@dataclass(frozen=True)
class Along:
    """One quantity along one ladder."""

    seeds: list[int]  # those that have it on every rung
    left_out: dict[int, str]  # {seed: the first rung that it lacks}
    by_seed: np.ndarray  # (S, R)
    by_rung: list[float]  # means over seeds
    changes: list[float]  # from the first rung to the last, of each seed
    change: Estimate
    without: dict[int, Estimate]  # {the seed that is left out: the change}
    bend: Estimate
    permuted: float  # p; sensitivity alone
    step: float  # of an accuracy: what one image more or less changes; else 0


@dataclass(frozen=True)
class Moved:
    """A measure of robustness along a ladder: did the knob move it? No part of the family."""

    measure: Measure
    along: Along
    batchnorm: str  # "recomputed" or "stored"
    reliability: float  # split-half, within seeds; NaN where it is not known
    moved: bool
    why: str  # it cannot be said to have moved; "" where it moved

    @property
    def words(self) -> str:
        """What minima become from the first rung to the last."""
        return became(self.moved, self.along.change.mean, self.measure.more_is_robust)


def became(moved: bool, change: float, more_is_robust: bool) -> str:
    """What minima become along a ladder by one measure."""
    if not moved:
        return CANNOT_TELL
    return "more robust" if (change > 0) == more_is_robust else "less robust"


@dataclass(frozen=True)
class Given:
    """The change that remains where a covariate does not change: description."""

    change: Estimate
    share: float  # of the covariate's variation within seeds that lies along the rungs


@dataclass(frozen=True)
class Followed:
    """An outcome along a ladder, and its verdict."""

    outcome: Outcome
    along: Along
    never: int  # minima that never got there; they count as the last epoch + 1
    bound: float  # the smallest margin that the change stays within
    given: dict[str, Given]
    detectable: float = np.nan  # with 80 % power, as the first of the family under Holm
    holm: float = 1.0
    verdict: str = CANNOT_TELL
    why: str = ""  # these data cannot tell

    @property
    def words(self) -> str:
        """The verdict, with its margin where it has one."""
        margin = f" {self.outcome.size(self.outcome.margin)}" if self.verdict == NO_MORE else ""
        return self.verdict + margin

    @property
    def better(self) -> str:
        """Whether finetuning became better or worse from the first rung to the last, if told."""
        if self.verdict not in (RISES, FALLS):
            return ""
        return "better" if (self.verdict == RISES) == self.outcome.more_is_better else "worse"


@dataclass(frozen=True)
class Ladder:
    """Everything about one ladder."""

    name: str
    rungs: list[str]
    measures: list[Moved]
    outcomes: list[Followed]
    clean_accuracy: list[float]  # means by rung
    train_loss: list[float]
    caution: str  # where rungs end at train losses that are far apart

    @property
    def moved(self) -> list[str]:
        """The measures that it moved; a ladder that moved none says nothing about robustness."""
        return [row.measure.key for row in self.measures if row.moved]


def climbed(
    values: Values,
    rungs: dict[str, list[str]],
    finetuning: Finetuning | None,
    halves: Values | None = None,
    outcomes: Sequence[Outcome] = OUTCOMES,
) -> list[Ladder]:
    """Ladders, {name: [setting of each rung]}, each with what it moved, what followed, verdicts.

    `halves`: values of halves of the images and draws (reliability.values).
    SystemExit with one line where two minima are of one setting and seed.
    """
    halves = Values([]) if halves is None else halves
    outcomes = [] if finetuning is None else outcomes
    return _verdicts(
        [_ladder(values, name, rungs[name], finetuning, halves, outcomes) for name in rungs]
    )


def _ladder(
    values: Values,
    name: str,
    rungs: list[str],
    finetuning: Finetuning | None,
    halves: Values,
    outcomes: Sequence[Outcome],
) -> Ladder:
    """One ladder, before Holm's correction over all of them."""
    minima = minima_of(values, rungs)
    measures = [_moved(values, halves, minima, measure) for measure in MEASURES]
    losses = by_rung(column(values, minima, TRAIN_LOSS)[0])
    return Ladder(
        name,
        list(rungs),
        measures,
        [_followed(values, minima, finetuning, outcome) for outcome in outcomes],
        by_rung(column(values, minima, CLEAN_ACCURACY)[0]),
        losses,
        _caution(losses),
    )


def minima_of(values: Values, rungs: list[str]) -> pd.DataFrame:
    """The minima of a ladder: a row a seed, a column a rung; NaN where there is none.

    SystemExit where two are of one setting and seed, or a setting stands twice.
    """
    if len(set(rungs)) < len(rungs):
        raise SystemExit(f"a ladder names a setting twice: {' '.join(rungs)}")
    minima = values.where(setting=list(rungs)).minima()
    verdicts.refuse_duplicates(minima)
    return minima.pivot(index="seed", columns="setting", values="minimum").reindex(columns=rungs)


def column(values: Values, minima: pd.DataFrame, measure: Measure) -> tuple[np.ndarray, str]:
    """(what was measured (S, R), BatchNorm): recomputed where any minimum has it, else stored."""
    wanted = values.where(**measure.fields)
    recomputed = wanted.where(batchnorm="recomputed", minimum=list(minima.stack()))
    batchnorm = "recomputed" if len(recomputed) else "stored"
    return _aligned(wanted, minima, batchnorm=batchnorm), batchnorm


def _aligned(values: Values, minima: pd.DataFrame, **fields) -> np.ndarray:
    """The value (S, R) of each of `minima`; NaN where it has none."""
    return values.aligned(minima.to_numpy().ravel(), **fields).reshape(minima.shape)


def by_rung(table: np.ndarray) -> list[float]:
    """Means (R,) over the seeds of `table` (S, R) that have every rung."""
    complete = table[~np.isnan(table).any(1)]
    return complete.mean(0).tolist() if len(complete) else [np.nan] * table.shape[1]


def along(table: np.ndarray, minima: pd.DataFrame, step: float = 0) -> Along:
    """A quantity along a ladder; `table` (S, R) is of `minima`, NaN where one lacks it.

    Seeds that lack a rung are left out. Where a value is infinite there is no estimate. `step`: of
    an accuracy, what one image changes (statistics.estimate).
    """
    lacking = np.isnan(table)
    keep = ~lacking.any(1)
    seeds, table = minima.index[keep].tolist(), table[keep]
    finite = np.isfinite(table).all()
    changes = contrasts.change(table) if finite else np.full(len(table), np.nan)
    bends = contrasts.bend(table) if finite else changes
    return Along(
        seeds=seeds,
        left_out={
            int(seed): str(minima.columns[row.argmax()])
            for seed, row in zip(minima.index, lacking)
            if row.any()
        },
        by_seed=table,
        by_rung=by_rung(table),
        changes=changes.tolist(),
        change=statistics.estimate(changes, step),
        without=dict(zip(seeds, contrasts.without_each(changes, step))),
        bend=statistics.estimate(bends, step),
        permuted=contrasts.permuted(table) if finite and len(table) > 1 else np.nan,
        step=step,
    )


def _moved(values: Values, halves: Values, minima: pd.DataFrame, measure: Measure) -> Moved:
    """Whether a ladder moved one measure of robustness."""
    table, batchnorm = column(values, minima, measure)
    row = along(table, minima)
    fields = measure.fields | {"batchnorm": batchnorm}
    seed_of_each = np.repeat(minima.index, minima.shape[1])
    reliable = reliability.of(halves, fields, minima.to_numpy().ravel(), seed_of_each)
    why = ""
    if np.isinf(row.by_seed).any():
        why = "beyond the largest level for some minima"
    elif row.change.why:
        why = row.change.why
    elif len(row.seeds) < LEAST_SEEDS:
        why = f"n = {len(row.seeds)}: it takes {LEAST_SEEDS} seeds or more"
    elif reliable < reliability.LEAST:
        why = f"split-half reliability {reliable:.2f}: too much of it is noise"
    elif not contrasts.keeps_its_sign(row.change, row.without.values()):
        why = "its interval holds 0, or does so without one of the seeds"
    return Moved(measure, row, batchnorm, reliable, not why, why)


def _followed(
    values: Values, minima: pd.DataFrame, finetuning: Finetuning, outcome: Outcome
) -> Followed:
    """An outcome along a ladder, before Holm's correction and its verdict."""
    table, never = outcome_of(values, minima, finetuning, outcome)
    row = along(table, minima, values.where(**finetuning.fields | outcome.fields).step)
    return Followed(
        outcome,
        row,
        never,
        contrasts.bound(row.change, row.without.values()),
        {
            words: _given(values, minima, table, covariate, scale)
            for words, (covariate, scale) in COVARIATES.items()
        },
    )


def outcome_of(
    values: Values, minima: pd.DataFrame, finetuning: Finetuning, outcome: Outcome
) -> tuple[np.ndarray, int]:
    """(the outcome (S, R) of each of `minima`, how many of them never got there)."""
    wanted = values.where(**finetuning.fields | outcome.fields)
    table = _aligned(wanted, minima)
    never = int(np.isinf(table[~np.isnan(table).any(1)]).sum())
    if never:
        # The outcome is then the time up to the last epoch + 1 (a restricted mean survival time).
        table = np.where(np.isinf(table), wanted.frame["limit"].max() + 1, table)
    if outcome.relative and np.isfinite(table).any() and np.nanmean(table):
        table = table / np.nanmean(table)  # a probe moves nothing: all of it stays 0
    return table, never


def _given(
    values: Values, minima: pd.DataFrame, table: np.ndarray, covariate: Measure, scale: Callable
) -> Given:
    """The change of `table` (S, R) that remains where a covariate does not change."""
    with np.errstate(divide="ignore"):  # a loss of 0: such a seed is left out
        given = scale(column(values, minima, covariate)[0])
    keep = np.isfinite(table + given).all(1)
    changes, share = contrasts.given(table[keep], given[keep])
    change = statistics.estimate(changes if share <= LARGEST_SHARE else [])
    if share > LARGEST_SHARE:
        change = replace(change, why=f"{share:.0%} of it lies along the rungs: not told apart")
    return Given(change, share)


def _caution(losses: list[float]) -> str:
    """In words, where the rungs' mean train losses (R,) span more than MATCHED."""
    least, most = min(losses), max(losses)
    if not most > MATCHED * least:
        return ""
    return (
        f"Its rungs end at train losses from {least:.3g} to {most:.3g} nats: a factor of "
        f"{most / least:.1f}. A rung that is trained less is another minimum for that reason "
        "alone; match them by their epochs."
    )


def _verdicts(ladders: list[Ladder]) -> list[Ladder]:
    """The ladders with Holm's p over all of them x OUTCOMES, and with verdicts."""
    rows = [row for ladder in ladders for row in ladder.outcomes]
    holm = iter(statistics.holm([row.along.change.p for row in rows]))
    return [
        replace(
            ladder,
            outcomes=[
                _with_verdict(ladder, replace(row, holm=float(next(holm))), len(rows))
                for row in ladder.outcomes
            ],
        )
        for ladder in ladders
    ]


def _with_verdict(ladder: Ladder, row: Followed, family: int) -> Followed:
    """An outcome with its verdict, one of a `family` of tests."""
    row = replace(
        row,
        detectable=contrasts.detectable(len(row.along.seeds), family) * row.along.change.std,
    )
    why = _untestable(ladder, row.along)
    if why:
        return replace(row, why=why)
    verdict, why = judge(row.along.changes, row.holm, row.outcome.margin, row.along.step)
    if verdict == NO_MORE and row.never:
        verdict = CANNOT_TELL
        why = f"{row.never} minima never got there: how late they would have been is not known"
    why = why.replace(BEYOND, f"{BEYOND} of {row.outcome.size(row.outcome.margin)}")
    return replace(row, verdict=verdict, why=why)


def judge(changes: Sequence[float], holm: float, margin: float, step: float = 0) -> tuple[str, str]:
    """(verdict, why it cannot be told) of the changes (S,) of an outcome, one a seed.

    `holm`: p after Holm's correction over the family. An effect beyond chance is told as such, also
    where it is smaller than the margin.
    """
    change = statistics.estimate(changes, step)
    without = contrasts.without_each(changes, step)
    beyond_chance = holm < verdicts.ALPHA
    if beyond_chance and contrasts.keeps_its_sign(change, without):
        return (RISES if change.mean > 0 else FALLS), ""
    if contrasts.stays_within(change, without, margin):
        return NO_MORE, ""
    if beyond_chance:
        return CANNOT_TELL, "it hangs on one seed"
    return CANNOT_TELL, f"not beyond chance after Holm's correction, and {BEYOND}"


def _untestable(ladder: Ladder, row: Along) -> str:
    """Why an outcome gets no verdict, whatever its numbers; "" where it may get one."""
    rungs, seeds = len(ladder.rungs), len(row.seeds)
    if rungs < LEAST_RUNGS or seeds < LEAST_SEEDS:
        return (
            f"{rungs} rungs x {seeds} seeds: a verdict takes {LEAST_RUNGS} x {LEAST_SEEDS} or more"
        )
    if row.change.why:
        return row.change.why
    return "" if ladder.moved else "the ladder moved no measure of robustness"


def listed(words: list[str]) -> str:
    """Words that may hold commas, in one list."""
    return " / ".join(words)


def robustness(ladder: Ladder) -> str:
    """What one ladder did to robustness, in a sentence."""
    start = f"{ladder.name}, {ladder.rungs[0]} to {ladder.rungs[-1]}"
    if not ladder.moved:
        return (
            f"{start}: no measure of robustness is known to have moved, so that this ladder says "
            "nothing about it."
        )
    parts = []
    for words in "more robust", "less robust":
        if measures := [row.measure.words for row in ladder.measures if row.words == words]:
            parts.append(f"{words} by {listed(measures)}")
    return f"{start}: minima become {'; '.join(parts)}."
