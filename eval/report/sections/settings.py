"""Settings side by side: robustness and finetuning of each, and their differences."""

from eval.report import cells, verdicts
from eval.report.page import Page
from eval.report.study import Finetuning, Study, over
from eval.report.table import MEASURED

ACCURACY = {"split": "test", "name": "accuracy"}


def add(study: Study, page: Page):
    """A column a setting, a line a measure; then the differences between settings."""
    page.heading("Settings side by side")
    made = study.passports + study.of_kind("finetune")
    page.table(
        lines(study),
        f"The {over(made)}; a minimum counts once, with the mean of its runs (of epochs: their "
        "median). Accuracy: averaged over the levels, BatchNorm "
        f"{verdicts.batchnorm(study.values)}; kept: that, divided by clean accuracy.",
    )
    page.table(
        verdicts.differences(study.values, study.asked),
        "Differences between settings, paired by seed [95 %, Student's t over n seeds, not "
        "corrected for their number]: where an interval holds 0, these seeds cannot tell the two "
        "apart.",
        fold_long="differences between settings",
    )


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
    return [("clean test accuracy", cells.by_minimum(clean)), *kept, *absolute]


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
