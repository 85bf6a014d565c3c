"""How much is enough: the smallest effect that a study finds, and the seeds that an effect takes.

`make plan` prints it, from the spread in the study's own results or, before there are any, the
demo's. Along a ladder by the whole rule of a verdict (contrasts.detectable); without ladders for
the difference between two settings, a paired t test at 0.05. Found: in 80 of 100 such studies.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common import cli
from eval.report import contrasts, statistics, verdicts
from eval.report.fixed_in_advance import LEAST_RUNGS, LEAST_SEEDS, OUTCOMES, Outcome
from eval.report.ladders import Ladder
from eval.report.reading import Finetuning
from eval.report.table import Values

DEMO = Path(__file__).with_name("demo_spread.json")
MOST_SEEDS = 100  # that are looked at


@dataclass(frozen=True)
class Spread:
    """How much one outcome differs between minima of one setting: standard deviations over seeds,
    after what a seed shares on all rungs. NaN where it is not known.
    """

    minimum: float  # of minima as they were finetuned, in `runs` runs
    run: float  # of the runs of one minimum; 0 where it is not known
    runs: int

    def of(self, runs: int) -> float:
        """That of a minimum that is finetuned in so many runs."""
        between = max(0, self.minimum**2 - self.run**2 / self.runs)
        return float(np.sqrt(between + self.run**2 / runs))


def change_per_minimum(rungs: int) -> float:
    """The standard deviation of a change along a ladder whose minima have one of 1."""
    ranks = contrasts.centred_ranks(rungs)
    return float((rungs - 1) / np.sqrt(ranks @ ranks))


def measured(values: Values, ladders: Sequence[Ladder], finetuning: Finetuning) -> dict:
    """{outcome: Spread} in a study: along its ladders, else between two of its settings."""
    runs = max(len(result.data["epochs_to_target"]) for result in finetuning.results)
    found = {}
    for outcome in OUTCOMES:
        of_outcome = finetuning.fields | outcome.fields
        if ladders:
            rows = [(ladder, row) for ladder in ladders for row in ladder.outcomes]
            variances = [
                (row.along.change.std / change_per_minimum(len(ladder.rungs))) ** 2
                for ladder, row in rows
                if row.outcome.key == outcome.key
            ]
        else:
            of_settings = verdicts.differences_of(values, of_outcome)
            variances = [estimate.std**2 / 2 for estimate in of_settings.values()]
            if outcome.relative and variances:
                squared = values.where(**of_outcome).frame["value"].mean() ** 2
                variances = [variance / squared for variance in variances]
        variances = [variance for variance in variances if np.isfinite(variance)]
        of_runs = values.where(**of_outcome | {"statistic": "std"}).frame["value"]
        run = 0 if outcome.relative or not len(of_runs) else np.sqrt((of_runs**2).mean())
        minimum = np.sqrt(np.mean(variances)) if variances else np.nan
        found[outcome.key] = Spread(float(minimum), float(np.nan_to_num(run)), runs)
    return found


@dataclass(frozen=True)
class Plan:
    """What a study is to have: rungs of its longest ladder, how many ladders, seeds, runs."""

    rungs: int  # 0: no ladder, two settings beside each other
    ladders: int
    seeds: int
    runs: int

    def detectable(self, spread: Spread, seeds: int | None = None) -> float:
        """The smallest effect that is found; NaN where there are too few seeds for any."""
        seeds, one = seeds or self.seeds, spread.of(self.runs)
        if not self.rungs:
            return float(np.sqrt(2)) * one * statistics.detectable_effect(seeds)
        if seeds < LEAST_SEEDS or self.rungs < LEAST_RUNGS:
            return np.nan
        family = self.ladders * len(OUTCOMES)
        return contrasts.detectable(seeds, family) * one * change_per_minimum(self.rungs)

    def seeds_for(self, effect: float, spread: Spread) -> int:
        """How many seeds an effect takes; 0 where MOST_SEEDS are too few, or none is known."""
        least = LEAST_SEEDS if self.rungs else statistics.LEAST_VALUES
        too_few, enough = least - 1, least
        while not self.detectable(spread, enough) <= effect:  # of many seeds it takes seconds
            if enough == MOST_SEEDS:
                return 0
            too_few, enough = enough, min(2 * enough, MOST_SEEDS)
        while enough - too_few > 1:
            middle = (enough + too_few) // 2
            if self.detectable(spread, middle) <= effect:
                enough = middle
            else:
                too_few = middle
        return enough


def read(path: Path) -> dict[str, Spread]:
    """The spreads in a results.json; none where it is missing, or is none of ours."""
    try:
        found = json.loads(path.read_text())["spread"] or {}
        return {
            key: Spread(**{name: np.nan if x is None else x for name, x in each.items()})
            for key, each in found.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def told(plan: Plan, spreads: dict[str, Spread], whose: str, effect: float) -> Iterator[str]:
    """Yields lines: the smallest effect of each outcome, and the seeds that `effect` takes."""
    what = "change along a ladder" if plan.rungs else "difference between two settings"
    size = f"{plan.rungs} rungs x " if plan.rungs else ""
    yield (
        f"smallest {what} found in 80 of 100 such studies ({size}{plan.seeds} seeds x {plan.runs} "
        f"runs; spread as in {whose}):"
    )
    first = OUTCOMES[0]
    for outcome in OUTCOMES:
        spread = spreads.get(outcome.key)
        known = plan.detectable(spread) if spread else np.nan
        why = "not known" if not spread or np.isnan(spread.minimum) else "none: too few for any"
        yield f"  {outcome.words}: {rounded(outcome, known) if np.isfinite(known) else why}"
    if effect and first.key in spreads:
        seeds = plan.seeds_for(effect / first.scale, spreads[first.key])
        words = f"{effect:g} points of {first.words}"
        rest = f"{seeds} seeds: SEEDS=0-{seeds - 1}" if seeds else f"more than {MOST_SEEDS} seeds"
        yield f"{words}: {rest}"


def rounded(outcome: Outcome, effect: float) -> str:
    """An effect in two digits: spreads of a few seeds bear no more."""
    return outcome.size(float(f"{effect:.2g}"))


def enough(plan: Plan, spread: Spread, first: Outcome = OUTCOMES[0]) -> str:
    """What these seeds find of the first outcome, and what would find its margin, in a sentence."""
    one, whole = "a difference between two settings", "all settings"
    if plan.rungs:
        one, whole = "a change along a ladder", "all ladders"
    found, seeds = plan.detectable(spread), plan.seeds_for(first.margin, spread)
    if np.isnan(spread.minimum):
        return ""
    parts = []
    if np.isfinite(found):
        parts.append(
            f"{plan.seeds} seeds find, in 80 of 100 such studies, {one} of "
            f"{rounded(first, found)} in {first.words}, by the spread of {whole}"
        )
    if seeds > plan.seeds:
        parts.append(f"{first.size(first.margin)} take {seeds} seeds (SEEDS=0-{seeds - 1})")
    elif not seeds:
        parts.append(f"{first.size(first.margin)} take more than {MOST_SEEDS} seeds")
    return f"How much is enough: {'; '.join(parts)}." if parts else ""


def main():
    parser = cli.Parser(__doc__)
    add = parser.add_argument
    add("--results", type=Path, required=True, help="results.json of the study, if there is one")
    add("--rungs", type=int, default=0, help="of its longest ladder; 0: it has none")
    add("--ladders", type=int, default=1)
    add("--seeds", type=int, required=True)
    add("--runs", type=int, required=True)
    add("--effect", type=float, default=0, help="in points of test accuracy after finetuning")
    args = parser.parse_args()
    own = read(args.results)
    known = own if any(np.isfinite(each.minimum) for each in own.values()) else {}
    whose = "its own results" if known else "the demo, whose images are letters and digits"
    plan = Plan(args.rungs, args.ladders, args.seeds, args.runs)
    for line in told(plan, known or read(DEMO), whose, args.effect):
        print(f"  {line}")


if __name__ == "__main__":
    main()
