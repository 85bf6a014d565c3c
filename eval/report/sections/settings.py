"""Settings side by side: the differences between them, then robustness and finetuning of each."""

import numpy as np

from eval.report import cells, statistics, verdicts
from eval.report.page import Page, Table
from eval.report.panels import Interval, Panel
from eval.report.sections.picture import OF_OUTCOMES, sized
from eval.report.study import Finetuning, Study, capitalized, over
from eval.report.styles import DOWN, OPEN, UP
from eval.report.table import MEASURED

ACCURACY = {"split": "test", "name": "accuracy"}
LOOKS = {"the first is better": UP, "the first is worse": DOWN, "not told apart": OPEN}


def add(study: Study, page: Page):
    """Differences as intervals around 0, a panel a quantity; under them the numbers."""
    page.heading("Settings side by side")
    differences = verdicts.differences(study.values, study.asked)
    made = study.passports + study.of_kind("finetune")
    both = Table(
        "Every setting: robustness and finetuning",
        lines(study),
        f"The {over(made)}; a minimum counts once, with the mean of its runs (of epochs: their "
        "median). Accuracy: averaged over the levels, BatchNorm "
        f"{verdicts.batchnorm(study.values)}; kept: that, divided by clean accuracy.",
    )
    pairs = list(next(iter(differences.values())))
    if not pairs:
        page.table(both)
        return
    every = [found for of_pairs in differences.values() for found in of_pairs.values()]
    known = [found for found in every if not found.why]
    apart = sum(found.low > 0 or found.high < 0 for found in known)
    few = "" if known else f" No interval: they take {statistics.LEAST_VALUES} seeds."
    page.picture(
        "differences",
        [one for words, found in differences.items() if (one := panel(words, found)).intervals],
        f"Differences between settings: {apart} of {len(known)} intervals exclude 0.{few}",
        "Differences, paired by seed, with Student's 95 % interval over seeds, n = "
        f"{cells.least_to_most(found.n for found in every)}, not corrected for their number: "
        "better is to the right; where an interval holds 0, these seeds cannot tell the two "
        "apart. No "
        "interval is narrower than one image more or less.",
        made,
        [*study.groups, "clean", *OF_OUTCOMES],
        legend=LOOKS,
        tables=[numbers(differences, pairs), both],
    )


def panel(words: str, found: dict) -> Panel:
    """One quantity, a row for each two settings that both have it."""
    shown = {pair: estimate for pair, estimate in found.items() if np.isfinite(estimate.mean)}
    return Panel(
        capitalized(words),
        intervals=[
            Interval(
                f"{a} − {b}",
                estimate.mean,
                estimate.low,
                estimate.high,
                look(estimate, words),
                f"{a} − {b}: {sized(estimate)}, n = {estimate.n}",
            )
            for (a, b), estimate in shown.items()
        ],
        x_label="difference",
        zero=True,
        down=words in verdicts.LESS_IS_BETTER,
    )


def look(estimate: statistics.Estimate, words: str) -> dict:
    """Colour and shape: whether the whole interval of a quantity lies on one side of 0."""
    more, less = (DOWN, UP) if words in verdicts.LESS_IS_BETTER else (UP, DOWN)
    if estimate.low > 0:
        return more
    return less if estimate.high < 0 else OPEN


def numbers(differences: dict, pairs: list[tuple[str, str]]) -> Table:
    """A line for each two settings, a column a quantity."""
    rows = []
    for pair in pairs:
        found = [of_pairs[pair] for of_pairs in differences.values()]
        rows.append([" − ".join(pair), *map(sized, found), max(each.n for each in found)])
    return Table("The differences in numbers", [["", *differences, "n"], *rows])


def lines(study: Study) -> list[list[str]]:
    """The table, which is printed on the terminal too."""
    columns = robustness(study)
    for finetuning in study.finetunings:
        columns += outcomes(study, finetuning)
    return cells.turned(cells.lines(columns, study.members))


def robustness(study: Study) -> cells.Columns:
    """Accuracy on clean images, what perturbations leave of it, and accuracy under them."""
    clean = study.values.where(**MEASURED, source="clean", split="test", name="accuracy")
    batchnorm = {"batchnorm": verdicts.batchnorm(study.values)}
    test = study.values.where(**MEASURED | batchnorm, split="test")
    kept, absolute = [], []
    for measurement, groups in study.measured.items():
        values = test.where(source=measurement)
        if len(values.where(name="relative")):
            title = study.groups[groups[0]]["title"]
            for columns, name, words in (
                (kept, "relative", "accuracy kept"),
                (absolute, "accuracy", "accuracy"),
            ):
                columns.append((f"{title}: {words}", cells.by_minimum(values.where(name=name))))
    return [("clean test accuracy, BatchNorm stored", cells.by_minimum(clean)), *kept, *absolute]


def outcomes(study: Study, finetuning: Finetuning) -> cells.Columns:
    """What finetuning came to, at its last epoch."""
    target = finetuning.results[0].attrs["target"]
    values = study.values.where(**finetuning.fields)
    which = f", {finetuning.label}" if len(study.finetunings) > 1 else ""
    shown = [(f"test accuracy ({finetuning.label} finetuning)", ACCURACY)]
    if finetuning.moves:
        shown += [
            (f"epochs (to {target:.0%} on train{which})", {"name": "epochs_to_target"}),
            (f"distance (/ start's norm{which})", {"name": "distance_relative", "part": "all"}),
        ]
    return [(title, cells.by_minimum(values.where(**fields))) for title, fields in shown]
