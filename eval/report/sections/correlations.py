"""Correlations within settings: finetuning against robustness, for the pairs that were fixed in
advance. Where a study has no ladders, they are its answer.
"""

import re

import numpy as np

from eval.report import figures, statistics, verdicts
from eval.report.page import Page
from eval.report.results import grouped
from eval.report.study import Finetuning, Study
from eval.report.table import Quantity


def add(study: Study, page: Page):
    """The figure of the pairs that were fixed in advance, their table, and everything else."""
    if not study.tests:
        return
    page.heading("Correlations within settings")
    if study.ladders:
        page.paragraph(
            "Beside the ladders, description: these correlations find little, because seeds of one "
            f"setting hardly differ. {answer(study)}"
        )
    label = study.asked.label
    page.figure(
        "question",
        figures.scatter(panels(study), study.style),
        f"Finetuning ({label}) against robustness: a point a minimum, n = {len(study.minima)}; "
        "bars: from the least to the most of its runs; hollow with an arrow: the target was never "
        "reached in half of the runs. r: correlation within settings, with its verdict after "
        f"Holm's correction over all {len(study.tests)} pairs. Train loss under weight noise: of "
        "training images, BatchNorm recomputed; all else: of test images, BatchNorm "
        f"{verdicts.batchnorm(study.values)}. Test accuracy after finetuning: at the last epoch.",
        [*study.passports, *study.asked.results],
    )
    fold = "All correlations within settings" if study.ladders else ""
    page.table(verdicts.lines(study.tests), verdicts.METHOD, fold=fold)
    for other in study.finetunings:
        if other != study.asked:
            page.table(
                verdicts.lines(verdicts.family(study.values, other, study.halves)),
                "Exploratory: no part of the family that was fixed in advance; corrected for its "
                f"own {verdicts.FAMILY}.",
                fold=f"Exploratory: the same for {other.label} finetuning",
            )
    exploratory(study, page)


def answer(study: Study) -> str:
    """What they answer, in one line."""
    return verdicts.answer(study.tests, len(study.members))


def findings(study: Study) -> dict[str, str]:
    """{outcome: what these data show about it}."""
    tests = grouped(study.tests, lambda test: test["outcome"])
    return {outcome: verdicts.sentence(members) for outcome, members in tests.items()}


def panels(study: Study) -> list[list[figures.Panel]]:
    """A row of panels an outcome, a panel a predictor."""
    rows = grouped(study.tests, lambda test: test["outcome"])
    return [[panel(study, study.asked, test) for test in tests] for tests in rows.values()]


def panel(study: Study, finetuning: Finetuning, test: dict) -> figures.Panel:
    """One predictor against one outcome, with the test's verdict."""
    names = list(study.minima["minimum"])
    words, _ = verdicts.PREDICTORS[test["predictor"]]
    fields = verdicts.predictor_fields(study.values, test["predictor"])
    outcome = verdicts.outcome_fields(finetuning, test["outcome"])
    y, least, most = (
        study.values.aligned(names, **outcome | {"statistic": statistic})
        for statistic in ("", "least", "most")
    )
    known = np.isfinite(test["r"])
    return figures.Panel(
        settings=list(study.minima["setting"]),
        x=study.values.aligned(names, **fields),
        y=y,
        least=least,
        most=most,
        x_label=words,
        y_label=verdicts.OUTCOMES[test["outcome"]][0],
        title=f"r = {test['r']:+.2f}: {test['verdict']}" if known else "",
        bold=test["verdict"] != "cannot tell",
    )


def exploratory(study: Study, page: Page):
    """Everything else that was measured, folded away."""
    others = verdicts.exploratory(study.values, study.asked)
    header = ["", *(words for words, *_ in verdicts.OUTCOMES.values())]
    lines = [
        [
            title(quantity),
            *(verdicts.interval(test["r"], test["low"], test["high"]) for test in tests),
        ]
        for quantity, tests in others
    ]
    page.table(
        [header, *lines],
        f"r within settings [95 %, from {statistics.LEAST_DF} degrees of freedom], not corrected "
        "for their number: none of them is a finding, some will look like one.",
        fold=f"Exploratory: the other {len(others)} measures against finetuning",
    )


def title(quantity: Quantity) -> str:
    """What a quantity is, in a sentence; what infinity means is for who reads numbers."""
    *_, value = quantity.by_minimum.values()
    return re.sub(r" \(inf: [^)]*\)", "", value.words)
