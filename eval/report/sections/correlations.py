"""Correlations within settings: finetuning against robustness, for the pairs that were fixed in
advance. Where a study has no ladders, they are its answer.
"""

import re

import numpy as np

from eval.report import statistics, verdicts
from eval.report.cells import with_ends
from eval.report.curves import legend
from eval.report.page import Page, Table
from eval.report.panels import Panel, Point
from eval.report.results import grouped
from eval.report.study import Finetuning, Study, capitalized
from eval.report.table import Quantity


def add(study: Study, page: Page):
    """The picture of the pairs that were fixed in advance; all of it folded beside ladders."""
    if not study.tests:
        return
    page.heading("Correlations within settings")
    if study.ladders:
        page.paragraph(
            "Beside the ladders, description: these correlations find little, because seeds of one "
            f"setting hardly differ. {answer(study)}"
        )
    told = not study.ladders and np.isfinite([test["r"] for test in study.tests]).any()
    label = study.asked.label
    drawn = [panel(study, study.asked, test) for test in study.tests]
    page.picture(
        "question",
        drawn,
        f"Of two minima of one setting, does the more robust one finetune better? {answer(study)}",
        f"Finetuning ({label}) against robustness: a point is a minimum, n = {len(study.minima)}; "
        "bars: from the least to the most of its runs; hollow, pointing up: the target was never "
        "reached in half of the runs. r: correlation within settings, with its verdict after "
        f"Holm's correction over all {len(study.tests)} pairs. Train loss under weight noise: of "
        "training images, BatchNorm recomputed; clean: of test images, BatchNorm stored; all else: "
        f"of test images, BatchNorm {verdicts.batchnorm(study.values)}. Test accuracy after "
        "finetuning: at the last epoch.",
        [*study.passports, *study.asked.results],
        legend=legend(drawn, study.style),
        tables=tables(study),
        fold="" if told else "The picture and its numbers",
    )


def tables(study: Study) -> list[Table]:
    """The pairs that were fixed in advance, other finetunings, and everything else."""
    result = [
        Table("All correlations within settings", verdicts.lines(study.tests), verdicts.METHOD)
    ]
    for other in study.finetunings:
        if other != study.asked:
            result.append(
                Table(
                    f"Exploratory: the same for {other.label} finetuning",
                    verdicts.lines(verdicts.family(study.values, other, study.halves)),
                    "Exploratory: no part of the family that was fixed in advance; corrected for "
                    f"its own {verdicts.FAMILY}.",
                )
            )
    return [*result, exploratory(study)]


def answer(study: Study) -> str:
    """What they answer, in one line."""
    return verdicts.answer(study.tests, len(study.members))


def findings(study: Study) -> dict[str, str]:
    """{outcome: what these data show about it}."""
    tests = grouped(study.tests, lambda test: test["outcome"])
    return {outcome: verdicts.sentence(members) for outcome, members in tests.items()}


def panel(study: Study, finetuning: Finetuning, test: dict) -> Panel:
    """One predictor against one outcome, with the test's verdict; a point a minimum."""
    names, settings = list(study.minima["minimum"]), list(study.minima["setting"])
    words, _ = verdicts.PREDICTORS[test["predictor"]]
    fields = verdicts.predictor_fields(study.values, test["predictor"])
    outcome = verdicts.outcome_fields(finetuning, test["outcome"])
    x = study.values.aligned(names, **fields)
    y, least, most = (
        study.values.aligned(names, **outcome | {"statistic": statistic})
        for statistic in ("", "least", "most")
    )
    return Panel(
        capitalized(verdicts.OUTCOMES[test["outcome"]][0]),
        f"r = {test['r']:+.2f}: {test['verdict']}" if np.isfinite(test["r"]) else "",
        test["verdict"] != "cannot tell",
        points=[
            point(study, name, setting, numbers)
            for name, setting, numbers in zip(names, settings, zip(x, y, least, most))
        ],
        x_label=words,
    )


def point(study: Study, name: str, setting: str, numbers: tuple) -> Point:
    """One minimum: x, y, and the least and the most of its runs."""
    x, y, least, most = numbers
    return Point(
        x,
        y,
        study.style[setting],
        f"{name}: {with_ends(x)}, {'never' if np.isinf(y) else with_ends(y)}",
        study.links[name],
        least,
        most,
        setting,
    )


def exploratory(study: Study) -> Table:
    """Everything else that was measured, without a correction or a verdict."""
    others = verdicts.exploratory(study.values, study.asked)
    header = ["", *(words for words, *_ in verdicts.OUTCOMES.values())]
    lines = [
        [
            title(quantity),
            *(verdicts.interval(test["r"], test["low"], test["high"]) for test in tests),
        ]
        for quantity, tests in others
    ]
    return Table(
        f"Exploratory: the other {len(others)} measures against finetuning",
        [header, *lines],
        f"r within settings [95 %, from {statistics.LEAST_DF} degrees of freedom], not corrected "
        "for their number: none of them is a finding, some will look like one.",
    )


def title(quantity: Quantity) -> str:
    """What a quantity is, in a sentence; what infinity means is for who reads numbers."""
    *_, value = quantity.by_minimum.values()
    return re.sub(r" \(inf: [^)]*\)", "", value.words)
