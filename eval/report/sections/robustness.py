"""Robustness: accuracy and loss against the strength of each perturbation, then every summary."""

from eval.report import cells, curves
from eval.report.page import Page, Table
from eval.report.results import SPLITS
from eval.report.study import Study, over
from eval.report.table import column_name

ROWS = {
    "accuracy": "Accuracy under each perturbation",
    "accuracy_relative": "How much of clean accuracy is kept",
    "loss": "Loss under each perturbation",
}


def add(study: Study, page: Page):
    """A picture of accuracy, of accuracy kept and of loss: a panel a perturbation and split."""
    if not study.measured:
        return
    page.heading("Robustness")
    columns = [column for name in study.measured for column in columns_of(study, name)]
    for row, title in ROWS.items():
        panels = curves.panels(study.passports, columns, study.style, study.links, [row])
        if panels:
            page.picture(
                f"robustness_{row}",
                panels,
                title,
                caption(study),
                study.passports,
                [column.folder.rpartition("/")[0] for column in columns],
                curves.legend(panels, study.style),
            )
    for measurement in study.measured:
        page.table(summary(study, measurement))


def caption(study: Study) -> str:
    """How to read a picture of curves over levels."""
    batchnorms = sorted({attrs["batchnorm"] for attrs in study.groups.values()})
    levels = {
        f"{attrs['level']}: {attrs['level_units']}"
        for group, attrs in study.groups.items()
        if any(f"{group}/levels" in result.data for result in study.passports)
    }
    return (
        "Above each panel the settings with least and most, on the mean over its levels. BatchNorm "
        f"{' or '.join(batchnorms)}. {'. '.join(sorted(levels))}. Lines: {over(study.passports)}."
    )


def columns_of(study: Study, measurement: str) -> list[curves.Column]:
    """For each group and split of a measurement that has a curve over levels."""
    result = []
    groups = study.measured[measurement]
    several = len({study.groups[group]["batchnorm"] for group in groups}) > 1
    for group in groups:
        attrs = study.groups[group]
        words = [f"{attrs['title']} {attrs['variant']}".strip()]
        words += [f"BatchNorm {attrs['batchnorm']}"] * several
        for split in SPLITS:
            folder = f"{group}/{split}"
            if any(f"{folder}/accuracy_relative" in result.data for result in study.passports):
                column = curves.Column(
                    folder,
                    title=", ".join([*words, split]),
                    axis=f"{group}/levels",
                    x_label=attrs["level"],
                    split=split,
                    reference=study.reference.get(group, {}),
                )
                result.append(column)
    return result


def summary(study: Study, measurement: str) -> Table:
    """Every summary of every minimum."""
    attrs = study.groups[study.measured[measurement][0]]
    if columns_of(study, measurement):
        caption = (
            f"{attrs['title']} ({attrs['source']}). Accuracy, relative (to clean accuracy), loss "
            "and its change from clean (nats per image): averaged over the levels. Levels at which "
            "accuracy is half of clean, and loss one nat above: linear between levels, > beyond "
            f"the largest. Brackets: {study.interval}."
        )
    else:
        caption = f"{attrs['title']} ({attrs['source']}). se: standard error."
    lines = cells.lines(summaries(study, measurement), study.members, study.each)
    fold = f"{attrs['title']}: every summary of every minimum"
    return Table(fold, cells.turned(lines), caption)


def summaries(study: Study, measurement: str) -> cells.Columns:
    """Everything that was measured, by group, then by split."""
    values = study.values.where(kind="passport", source=measurement)
    return [
        (column_name(quantity.fields).replace("_", " "), quantity.by_minimum)
        for group in study.measured[measurement]
        for split in SPLITS
        for quantity in values.where(group=group, split=split).quantities()
    ]
