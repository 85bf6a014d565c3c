"""Robustness: the curves of each perturbation, then every summary of every minimum."""

from eval.report import cells, figures
from eval.report.page import Page
from eval.report.results import SPLITS
from eval.report.study import Study, over
from eval.report.table import column_name

ROWS = ("accuracy", "accuracy_relative", "loss")


def add(study: Study, page: Page):
    """A figure for each measurement that has levels, a folded table for each measurement."""
    page.heading("Robustness")
    swept = {name: columns for name in study.measured if (columns := panels(study, name))}
    for measurement, columns in swept.items():
        groups = study.measured[measurement]
        attrs = study.groups[groups[0]]
        page.figure(
            measurement,
            figures.curves(study.passports, columns, study.style, ROWS),
            f"{attrs['title']} ({attrs['source']}): {over(study.passports)}. Relative: divided by "
            "clean accuracy.",
            study.passports,
            groups,
        )
    for measurement, groups in study.measured.items():
        attrs = study.groups[groups[0]]
        if measurement in swept:
            caption = (
                f"{attrs['title']}. Accuracy, relative (to clean accuracy), loss and its change "
                "from clean (nats per image): averaged over the levels. Levels at which accuracy "
                "is half of clean, and loss one nat above: linear between levels, > beyond the "
                f"largest. Brackets: {study.interval}."
            )
        else:
            caption = f"{attrs['title']} ({attrs['source']}). se: standard error."
        table = cells.lines(summaries(study, measurement), study.members, study.each)
        fold = f"{attrs['title']}: every summary of every minimum"
        page.table(cells.turned(table), caption, fold)


def panels(study: Study, measurement: str) -> list[figures.Column]:
    """A column of panels for each group and split that has a curve over levels."""
    result = []
    for group in study.measured[measurement]:
        attrs = study.groups[group]
        for split in SPLITS:
            folder = f"{group}/{split}"
            if any(f"{folder}/accuracy_relative" in result.data for result in study.passports):
                column = figures.Column(
                    folder,
                    title=f"{group.replace('_', ' ')}: {split}",
                    axis=f"{group}/levels",
                    x_label=f"{attrs['level']}\n({attrs['level_units']})",
                    split=split,
                    reference=study.reference.get(group, {}),
                )
                result.append(column)
    return result


def summaries(study: Study, measurement: str) -> cells.Columns:
    """Everything that was measured, by group, then by split."""
    values = study.values.where(kind="passport", source=measurement)
    return [
        (column_name(quantity.fields).replace("_", " "), quantity.by_minimum)
        for group in study.measured[measurement]
        for split in SPLITS
        for quantity in values.where(group=group, split=split).quantities()
    ]
