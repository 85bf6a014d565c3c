"""Tuning: the settings that `make tune` tried, by accuracy on val. Test images play no part."""

from eval.report import figures
from eval.report.page import Page
from eval.report.results import Result, grouped
from eval.report.study import Study


def add(study: Study, page: Page):
    """For each method and mode that was tuned, curves and a table of its settings."""
    tuned = grouped(study.tuned, lambda result: (result.stage, *what_is_tuned(result)))
    for (_, kind, name), results in tuned.items():
        page.heading(f"Tuning: {kind}-{name}")
        ranked = sorted(results, key=val_accuracy, reverse=True)
        for place, result in enumerate(ranked):
            result.label = f"setting {place + 1}" if place else "best on val"
        add_curves(page, f"{kind}-{name}", ranked)
        page.table(table(ranked), "Test images play no part.")


def what_is_tuned(result: Result) -> tuple[str, str]:
    """("training", method) or ("finetune", mode)."""
    attrs = result.attrs
    return result.kind, attrs["mode"] if result.kind == "finetune" else attrs["method"]


def val_accuracy(result: Result) -> float:
    """Accuracy on val at the last epoch: of an average its own, of finetuning the mean of runs."""
    final = result.data.get("final/val_accuracy")
    return float(result.data["val/accuracy"][..., -1].mean() if final is None else final)


def add_curves(page: Page, name: str, results: list[Result]):
    """A line a setting."""
    columns = [
        figures.Column(split, split, split=split, final=f"final/{split}")
        for split in ("train", "val")
    ]
    style = figures.styles(result.label for result in results)
    page.figure(
        f"tuning_{name}",
        figures.curves(results, columns, style, target=results[0].attrs["target"]),
        "A line a setting, the mean of its runs (no interval), by accuracy on val at the last "
        "epoch (rings; of an average: its own).",
        results,
        ["train", "val"],
    )


def table(results: list[Result]) -> list[list]:
    """The settings in which they differ, and what came of them."""
    differing = [
        name
        for name in results[0].settings
        if len({str(result.settings.get(name)) for result in results}) > 1
    ]
    rows = [
        [result.label, f"{val_accuracy(result):.3f}", *map(result.settings.get, differing)]
        for result in results
    ]
    return [["", "val accuracy", *differing], *rows]
