"""Tuning: the settings that `make tune` tried, by accuracy on val. Test images play no part."""

import numpy as np

from eval.report import curves
from eval.report.page import Page, Table
from eval.report.results import Result, grouped
from eval.report.study import WHERE, Study
from eval.report.styles import styles

Tried = list[tuple[str, list[Result]]]  # a setting's word and its files, the best setting first


def add(study: Study, page: Page):
    """For each method, and each mode on a task, that was tuned: curves and a table of settings."""
    for what, results in grouped(study.tuned, what_is_tuned).items():
        name = "-".join(what)
        for result in results:
            result.label = result.mode or result.label
        ranked = sorted(grouped(results, lambda result: result.label).items(), key=worst_last)
        page.heading(f"Tuning: {name}")
        add_curves(page, name, ranked)


def what_is_tuned(result: Result) -> tuple[str, ...]:
    """("training", method) or ("finetune", mode, task)."""
    attrs = result.attrs
    if result.kind == "finetune":
        return result.kind, attrs["mode"], result.task
    return result.kind, attrs["method"]


def worst_last(tried: tuple[str, list[Result]]) -> float:
    """A key that sorts settings by val accuracy, the best first."""
    return -mean_accuracy(tried[1])


def mean_accuracy(results: list[Result]) -> float:
    """The mean over the files of one setting."""
    return float(np.mean([val_accuracy(result) for result in results]))


def val_accuracy(result: Result) -> float:
    """Accuracy on val at the last epoch: of an average its own, of finetuning the mean of runs."""
    final = result.data.get("final/val_accuracy")
    return float(result.data["val/accuracy"][..., -1].mean() if final is None else final)


def add_curves(page: Page, name: str, ranked: Tried):
    """A line a setting."""
    columns = [
        curves.Column(split, split.capitalize(), split=split, final=f"final/{split}")
        for split in ("train", "val")
    ]
    style = styles(label for label, _ in ranked)
    results = [result for _, members in ranked for result in members]
    panels = curves.panels(results, columns, style, {}, target=results[0].attrs["target"])
    best, accuracy = ranked[0][0], mean_accuracy(ranked[0][1])
    page.picture(
        f"tuning_{name}",
        panels,
        f"Best on val: {best}, accuracy {accuracy:.3f}. Test images play no part.",
        "A line a setting, the mean of its files and their runs; band: standard deviation over "
        "files (one file: no interval). By accuracy on val at the last epoch (rings; of an "
        "average: its own), the best first.",
        results,
        ["train", "val"],
        curves.legend(panels, style),
        [Table("Every setting that was tried, the best on val first", table(ranked))],
    )


def table(ranked: Tried) -> list[list]:
    """A line a setting: what came of it, and the flags in which settings differ."""
    settings = [members[0].settings for _, members in ranked]
    differing = [
        name
        for name in settings[0]
        if name not in WHERE and len({str(flags.get(name)) for flags in settings}) > 1
    ]
    rows = [
        [
            label,
            f"{mean_accuracy(members):.3f}",
            len(members),
            *map(members[0].settings.get, differing),
        ]
        for label, members in ranked
    ]
    return [["", "val accuracy", "files", *differing], *rows]
