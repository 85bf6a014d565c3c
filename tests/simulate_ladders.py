"""What ladders' statistics do on studies whose truth is known: python -m tests.simulate_ladders
prints the tables of docs/statistics.md, in some minutes.

A study: 2 ladders x 4 outcomes, so a family of 8 tests. Sizes are rungs x seeds. Everything is in
standard deviations of one minimum's noise; an effect or a margin is a change from the first rung to
the last. No kind of noise here is the one that the statistics assume, but for the first.
"""

import itertools

import numpy as np

from eval.report import agreements, contrasts, ladders, statistics

LADDERS, OUTCOMES = 2, 4
SIZES = [(4, 4), (4, 6), (4, 8), (6, 4)]
EFFECTS = (3, 6)  # what is to be found, and margins
NOISES = (
    "independent",
    "slopes that differ between seeds, SD 0.5",
    "slopes that differ between seeds, SD 1",
    "Student's t, 3 degrees of freedom",
    "lognormal",
    "SD from 0.5 to 2 by rung",
    "one bad minimum, 6 SD in all outcomes",
    "effects of rungs off the line, SD 0.5",
    "every rung off by its own, SD 0.5",
)


def noise(rng, kind, rungs, seeds):
    """(LADDERS, OUTCOMES, seeds, rungs) without any change along the ladder."""
    shape = LADDERS, OUTCOMES, seeds, rungs
    values = rng.normal(size=shape)
    if kind.startswith("slopes"):
        ranks = contrasts.centred_ranks(rungs)
        spread = float(kind.split()[-1])
        values += spread * rng.normal(size=(*shape[:3], 1)) * ranks / ranks.std()
    elif kind.startswith("Student"):
        values = rng.standard_t(3, shape) / np.sqrt(3)
    elif kind == "lognormal":
        values = (np.exp(values) - np.exp(0.5)) / np.sqrt((np.e - 1) * np.e)
    elif kind.startswith("SD"):
        values *= np.linspace(0.5, 2, rungs)
    elif kind.startswith("one bad"):
        values[0, :, rng.integers(seeds), rng.integers(rungs)] += 6
    elif kind.startswith(("effects", "every")):  # the same for all seeds
        effects = 0.5 * rng.normal(size=(LADDERS * OUTCOMES, rungs))
        if kind.startswith("effects"):
            effects = contrasts.off_the_line(effects)
        values += effects.reshape(*shape[:2], 1, rungs)
    return values + rng.normal(size=(seeds, 1))  # the seed's own effect, which all rungs share


def told(values, margin=np.inf):
    """Verdicts of the family (LADDERS x OUTCOMES,) on `values`, and the estimates."""
    changes = contrasts.change(values).reshape(-1, values.shape[2])
    estimates = [statistics.estimate(each) for each in changes]
    holm = statistics.holm([each.p for each in estimates])
    found = [ladders.judge(each, p, margin)[0] for each, p in zip(changes, holm)]
    return found, estimates


def row(kind, rungs, seeds, studies=400, seed=0):
    """{column: per 100} of one size and kind of noise.

    false: studies without any effect that have some rises or falls; p: single tests with p < 0.05,
    t over seeds; permuted: the same, rungs permuted within seeds; covered: 95 % intervals that
    hold 0; found: the one effect of the study is found; small: no more than the margin, where there
    is no effect; too small: the same where the effect is as large as the margin.
    """
    rng = np.random.default_rng([seed, rungs, seeds, NOISES.index(kind)])
    line = np.linspace(0, 1, rungs)
    counts = []
    for _ in range(studies):
        values = noise(rng, kind, rungs, seeds)
        found, estimates = told(values)
        count = {
            "false": any(verdict in (ladders.RISES, ladders.FALLS) for verdict in found),
            "p": np.mean([each.p < 0.05 for each in estimates]),
            "covered": np.mean([each.low <= 0 <= each.high for each in estimates]),
            "permuted": contrasts.permuted(values[0, 0]) < 0.05,
        }
        for effect in EFFECTS:
            moved = values.copy()
            moved[0, 0] += effect * line
            verdict, _ = told(moved)
            count[f"found {effect}"] = verdict[0] == ladders.RISES
            margins = [
                ladders.judge(each, 1.0, effect)[0] == ladders.NO_MORE
                for each in contrasts.change(np.stack([values[0, 0], moved[0, 0]]))
            ]
            count[f"small {effect}"], count[f"too small {effect}"] = margins
        counts.append(count)
    return {name: 100 * np.mean([count[name] for count in counts]) for name in counts[0]}


TRUTHS = ("robustness itself", "half of it another way", "the knob, in one ladder", "no effect")


def agreement(truth, seeds, moved, outcome_noise=1.0, plain=False, studies=400, rungs=4):
    """{verdict of judge_agreement: per 100} where two ladders move a measure by `moved` SD.

    The outcome's change in the two: both through the measure, the second half as much again by
    another way, the first by another way alone and the second not at all, or none.
    `outcome_noise`: SD, where the measure's is 1. `plain`: the mean change of the measure is taken
    for known, as contrasts.per_unit does not.
    """
    rng, line = np.random.default_rng([seeds, moved]), np.linspace(0, 1, rungs)
    through, direct = {
        "robustness itself": ((1, 1), (0, 0)),
        "half of it another way": ((1, 1), (0, 0.5)),
        "the knob, in one ladder": ((0, 0), (1, 0)),
        "no effect": ((0, 0), (0, 0)),
    }[truth]

    def draw():
        return rng.normal(size=(seeds, rungs))

    counts = []
    for _ in range(studies):
        ratios, verdicts = [], []
        for share, other in zip(through, direct):
            # Where it is through robustness, the seeds that became more robust finetune better.
            robust = moved * line + 0.25 * draw()
            outcome = share * robust + other * moved * line + outcome_noise * draw()
            changes = contrasts.change(outcome), contrasts.change(robust + draw())
            ratio = changes[0] / changes[1].mean() if plain else contrasts.per_unit(*changes)
            ratios.append(ratio)
            p = statistics.estimate(changes[0]).p * LADDERS * OUTCOMES  # Holm's first step
            verdicts.append(ladders.judge(changes[0], p, 1)[0])
        counts.append(agreements.judge_agreement(*ratios, verdicts)[0])
    names = agreements.ITSELF, agreements.KNOB, agreements.NO_DIFFERENCE, ladders.CANNOT_TELL
    return {name: 100 * counts.count(name) / studies for name in names}


def line_of(cells):
    """Numbers as a line of a table in Markdown."""
    words = [cell if isinstance(cell, str) else f"{cell:.0f}" for cell in cells]
    return f"| {' | '.join(words)} |"


def main():
    """Prints the tables."""
    for kind in NOISES:
        for rungs, seeds in SIZES:
            numbers = row(kind, rungs, seeds)
            if (kind, rungs, seeds) == (NOISES[0], *SIZES[0]):
                print(line_of(["noise", "size", *numbers]))
            print(line_of([kind, f"{rungs} x {seeds}", *numbers.values()]), flush=True)
    cases = itertools.product((False, True), TRUTHS, (1.0, 0.25), (4, 6, 8), (6, 12))
    for plain, truth, outcome_noise, seeds, moved in cases:
        numbers = agreement(truth, seeds, moved, outcome_noise, plain)
        sizes = f"4 x {seeds}", f"{moved} SD", f"outcome noise {outcome_noise:g} SD"
        print(line_of(["plain" if plain else "", truth, *sizes, *numbers.values()]), flush=True)


if __name__ == "__main__":
    main()
