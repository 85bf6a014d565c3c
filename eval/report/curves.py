"""Curves of files as panels: a line is the mean over seeds, its band the standard deviation."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from eval.report import statistics
from eval.report.cells import with_ends
from eval.report.panels import FAR_APART, Line, Panel
from eval.report.results import SPLITS, Result
from eval.report.styles import GREY, Style

LABELS = {  # {dataset: (what it is, its unit)}
    "loss": ("loss", "nats per image"),
    "accuracy_relative": ("share of clean accuracy kept", "accuracy / clean accuracy"),
    "accuracy": ("accuracy", "fraction"),
}
MOST_VALUES = 12  # of a curve that its words list
PUBLISHED = {"color": GREY, "ls": "--"}


@dataclass
class Column:
    """A curve of each file: the datasets FOLDER/ROW along the dataset `axis`."""

    folder: str
    title: str
    axis: str = "epoch"
    x_label: str = "epoch"
    split: str = ""  # of the reference curves
    reference: dict[str, dict] = field(default_factory=dict)  # {label: published curve}
    final: str = ""  # prefix of the scalars that the saved weights have, of training


def published(path: Path | None) -> dict[str, dict]:
    """The original report's curves as they are drawn behind ours: {group: {label: curve}}."""
    if not path:
        return {}
    reference = {
        group: curves
        for group, curves in json.loads(path.read_text()).items()
        if isinstance(curves, dict)
    }
    for curve in reference.get("square_mask", {}).values():
        # published in pixels of 112; ours is a fraction of the side
        curve["levels"] = [side / 112 for side in curve["levels"]]
    for curves in reference.values():
        for curve in curves.values():
            if isinstance(curve, dict) and "levels" in curve:
                for split in SPLITS:
                    accuracy = np.array(curve[f"{split}_accuracy"])
                    curve[f"{split}_accuracy_relative"] = accuracy / accuracy[0]
    return reference


def panels(
    results: Sequence[Result],
    columns: Sequence[Column],
    style: Mapping[str, Style],
    links: Mapping[str, str],
    rows: Sequence[str] = ("accuracy", "loss"),
    classes: int | None = None,
    target: float | None = None,
) -> list[Panel]:
    """For each of `rows`, names of datasets, a panel for each column that has them, a line a label.

    `classes`: their number, where chance is to be drawn. `target`: a train accuracy to draw.
    """
    found = []
    for name in rows:
        for column in columns:
            lines = lines_of(results, column, name, style, links)
            if not any(np.isfinite(line.y).sum() > 1 for line in lines):
                continue  # what was measured at the end alone is no curve
            what, shown = LABELS.get(name, (name, ""))
            title = f"{column.title}, {what}" if len(rows) > 1 else column.title
            panel = Panel(title, lines=lines, shown=shown)
            panel.x_label = column.x_label
            panel.said = from_to(results, column, name)
            limit(panel, name)
            if target and (column.split, name) == ("train", "accuracy"):
                panel.levels["target"] = target, "-."
            if classes:
                chance = 1 / classes if name == "accuracy" else float(np.log(classes))
                panel.levels["chance"] = chance, ":"
            found.append(panel)
    return found


def lines_of(
    results: Sequence[Result],
    column: Column,
    name: str,
    style: Mapping[str, Style],
    links: Mapping[str, str],
) -> list[Line]:
    """The mean over seeds and its band, for each label; rings; the original report's, dashed."""
    lines = []
    for label, (x, values) in collect(results, column.axis, f"{column.folder}/{name}").items():
        mean, std, count = statistics.mean_std(values)
        words = f"{label}{f', mean of {count}' if count > 1 else ''}: {listed(x, mean)}"
        band = std if count > 1 else None
        lines.append(Line(x, mean, style[label], words, links.get(label, ""), band, label=label))
    if column.final:
        finals = collect(results, "epoch", f"{column.final}_{name}")
        for label, (x, values) in finals.items():
            mean = float(statistics.mean_std(values)[0])
            words = f"{label}, the weights that were saved: {with_ends(mean)}"
            lines.append(Line(x[-1:], [mean], style[label], words, rings=True, label=label))
    for label, curve in column.reference.items():
        values = curve.get(f"{column.split}_{name}")
        if label in style and values is not None:
            dashed = {"color": style[label]["color"], "ls": "--", "lw": 1, "alpha": 0.6}
            x = curve.get("levels", curve.get("t"))
            words = f"{label}, original report"
            lines.append(Line(x, values, dashed, words, label="original report"))
    return lines


def listed(x: Sequence[float], y: Sequence[float]) -> str:
    """Some points of a curve in words."""
    every = -(-len(x) // MOST_VALUES)
    points = list(zip(x, y))[::every]
    return ", ".join(f"{with_ends(b)} at {a:.3g}" for a, b in points if np.isfinite(b))


def from_to(results: Sequence[Result], column: Column, name: str) -> str:
    """Which label ends lowest and which highest: along epochs at the last, else on the whole."""
    ends = {}
    for label, (_, values) in collect(results, column.axis, f"{column.folder}/{name}").items():
        mean = statistics.mean_std(values)[0]
        ends[label] = mean[-1] if column.axis == "epoch" else np.mean(mean)
    where = "last epoch" if column.axis == "epoch" else "mean"
    return extremes(ends, where)


def extremes(values: Mapping[str, float], where: str) -> str:
    """The least and the most of {label: number}, in words; "" of fewer than two."""
    known = {label: value for label, value in values.items() if np.isfinite(value)}
    if len(known) < 2:
        return ""
    least, most = min(known, key=known.get), max(known, key=known.get)
    low, high = with_ends(known[least]), with_ends(known[most])
    return f"{where} {low} in all" if low == high else f"{where} {low} ({least}) to {high} ({most})"


def limit(panel: Panel, name: str):
    """The range of the y axis: all of accuracy; of losses that differ much, their logarithm."""
    if name == "accuracy":
        panel.y_limits, panel.bounds = (0, 1.02), (0, 1)
    elif name == "loss":
        means = np.concatenate([np.asarray(line.y, float) for line in panel.lines])
        means = means[np.isfinite(means)]
        panel.log_y = bool(len(means) and means.max() > FAR_APART * means.min() > 0)
        panel.bounds = (means.min() / 2 if panel.log_y else 0, np.inf)
    else:
        panel.y_limits, panel.bounds = (0, None), (0, np.inf)


def collect(results: Sequence[Result], axis: str, dataset: str) -> dict[str, tuple]:
    """{label: (x (X,), values (n, X))} of a dataset, a row a file.

    A file's row is the mean of its runs (R, X) or of its repeats (X, R). SystemExit where files of
    one label have different axes.
    """
    result = {}
    for one in results:
        if dataset not in one.data:
            continue
        x, values = result.setdefault(one.label, (one.data[axis], []))
        if not np.array_equal(x, one.data[axis]):
            raise SystemExit(
                f"{one.path}: its {axis} is not that of the other {one.label}; make the older of "
                "the two again"
            )
        value = one.data[dataset]
        values.append(value.mean(0 if axis == "epoch" else 1) if value.ndim == 2 else value)
    return result


def legend(panels: Sequence[Panel], style: Mapping[str, Style]) -> dict[str, Style]:
    """{label: its look} of what stands in panels: settings, published curves, levels."""
    labels = {mark.label for panel in panels for mark in (*panel.lines, *panel.points)}
    found = {label: look for label, look in style.items() if label in labels}
    if "original report" in labels:
        found["original report"] = PUBLISHED
    for panel in panels:
        for name, (_, dashes) in panel.levels.items():
            found[name] = {"color": GREY, "ls": dashes}
    return found
