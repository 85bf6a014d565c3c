"""The report's figures: each function returns a matplotlib Figure; `svg` and `pdf` write it.

A line is the mean over seeds, its band the standard deviation over seeds; colour and marker belong
to a setting throughout, and settings of one method have its marker, in shades of its colour. What
is black takes the colour of the text around it, so that a figure
stands in a light page and in a dark one. Names are data: a $ in one begins no formula.
"""

import io
import itertools
import json
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from eval.report import statistics
from eval.report.results import SPLITS, Result, grouped

# Okabe and Ito 2008
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
INK = "#010101"  # stands for the colour of the text around the figure
MARKERS = "osD^vPX"
LABELS = {
    "loss": "loss (nats per image)",
    "accuracy_relative": "accuracy / clean",
    "accuracy": "accuracy (fraction)",
    "all": "all but the head",
    "with_head": "with the new head",
    "weights": "conv, linear weights",
    "batchnorm": "BatchNorm",
    "distance": "distance (Euclidean norm)",
    "distance_relative": "distance / norm at the start",
    "path": "length of the path (Euclidean norm)",
}
GREY = {"color": "grey", "lw": 0.8}
# Inches of a legend's entry: its line and marker, a letter of its label, its height.
LEGEND_MARK, LEGEND_LETTER, LEGEND_LINE = 0.6, 0.07, 0.17
INKED = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
# Also over a matplotlibrc in the folder where one stands, which comes before all others.
matplotlib.rcParams.update(
    {name: value for name, value in matplotlib.rcParamsDefault.items() if name != "backend"}
    | {
        "text.parse_math": False,
        "svg.fonttype": "none",
        "svg.hashsalt": "basins",
        "font.size": 8,
        "axes.titlesize": 8,
        "axes.grid": True,
        "grid.alpha": 0.25,
        "lines.linewidth": 1.3,
        "lines.markersize": 4,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    | dict.fromkeys(INKED, INK)
)


@dataclass
class Column:
    """A column of panels, one for each row: the datasets FOLDER/ROW along the dataset `axis`."""

    folder: str
    title: str
    axis: str = "epoch"
    x_label: str = "epoch"
    split: str = ""  # of the reference curves
    reference: dict[str, dict] = field(default_factory=dict)  # {label: published curve}
    final: str = ""  # prefix of the scalars that the saved weights have, of training


@dataclass
class Panel:
    """An outcome against a predictor, a value (n,) a minimum: what one panel of `scatter` shows."""

    settings: Sequence[str]
    x: np.ndarray
    y: np.ndarray  # inf: never
    least: np.ndarray  # of the runs
    most: np.ndarray
    x_label: str
    y_label: str
    title: str = ""
    bold: bool = False


@dataclass
class Climb:
    """One quantity along one ladder: what one panel of `ladders` shows."""

    by_seed: np.ndarray  # (S, R)
    title: str
    shown: str  # what the axis shows
    words: str  # the verdict
    change: str
    colour: str
    told: bool  # whether there is a verdict
    least: float = 0  # what the axis spans at least
    limits: tuple[float, float] = (0, 1)
    log: bool = False

    @property
    def described(self) -> str:
        """The panel in words, for who does not see it."""
        means = ", ".join(f"{mean:.3g}" for mean in self.by_rung)
        measured = f"means by rung {means}" if len(self.by_seed) else "no seed has all rungs"
        return f"{self.title} ({self.shown}): {self.words}, {self.change}; {measured}"

    @property
    def by_rung(self) -> np.ndarray:
        """Means over seeds (R,), of rungs where all values are finite."""
        finite = np.isfinite(self.by_seed).all(0) if len(self.by_seed) else []
        return self.by_seed[:, finite].mean(0) if np.any(finite) else np.array([])


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


def styles(names: Iterable[str]) -> dict[str, dict]:
    """{name: colour and marker}, by order of appearance."""
    return {
        name: {"color": COLOURS[i % 7], "marker": MARKERS[(i + i // 7) % 7]}
        for i, name in enumerate(dict.fromkeys(names))
    }


def shades(methods: dict[str, str]) -> dict[str, dict]:
    """{setting: colour and marker}, of `methods` {setting: its method}.

    Settings of one method share its marker; their colours go from a darker to a lighter shade.
    """
    result, of_method = {}, styles(methods.values())
    for method, settings in grouped(methods, methods.get).items():
        colour = np.array(to_rgb(of_method[method]["color"]))
        dark, light = 0.75 * colour, 0.45 * colour + 0.55
        for place, setting in enumerate(settings):
            result[setting] = dict(of_method[method])
            if len(settings) > 1:
                share = place / (len(settings) - 1)
                result[setting]["color"] = to_hex(dark + share * (light - dark))
    return result


def curves(
    results: list[Result],
    columns: list[Column],
    style: dict[str, dict],
    rows: Sequence[str] = ("accuracy", "loss"),
    classes: int | None = None,
    target: float | None = None,
) -> Figure:
    """Panels of curves, a line a label: a row of panels for each of `rows`, names of datasets.

    `classes`: their number, where chance is to be drawn. `target`: a train accuracy to draw.
    """
    figure = Figure((2.8 * len(columns) + 0.4, 2.1 * len(rows) + 0.6), layout="constrained")
    axes = figure.subplots(len(rows), len(columns), squeeze=False, sharex="col")
    for (i, name), (j, column) in itertools.product(enumerate(rows), enumerate(columns)):
        axis = axes[i, j]
        means = _draw_lines(axis, results, column, name, style)
        if column.final:
            _draw_rings(axis, results, column, name, style)
        _draw_reference(axis, column, name, style)
        _limit(axis, name, means)
        if target and (column.split, name) == ("train", "accuracy"):
            axis.axhline(target, ls="-.", **GREY, label="target")
        if classes:
            chance = 1 / classes if name == "accuracy" else np.log(classes)
            axis.axhline(chance, ls=":", **GREY, label="chance")
        axis.set(
            title="" if i else column.title,
            ylabel="" if j else LABELS.get(name, name),
            xlabel=column.x_label if i + 1 == len(rows) else "",
        )
        axis.locator_params(axis="x", nbins=6)
    return _legend(figure)


def _draw_lines(axis: Axes, results: list[Result], column: Column, name: str, style: dict) -> list:
    """The mean over seeds and its band, for each label; returns all finite means."""
    drawn = []
    for label, (x, values) in _collect(results, column.axis, f"{column.folder}/{name}").items():
        mean, std, count = statistics.mean_std(values)
        drawn.extend(mean[np.isfinite(mean)])
        axis.plot(x, mean, **style[label], markevery=max(1, len(x) // 10), label=label)
        if count > 1:
            colour = style[label]["color"]
            axis.fill_between(x, mean - std, mean + std, color=colour, alpha=0.2, lw=0)
    return drawn


def _draw_rings(axis: Axes, results: list[Result], column: Column, name: str, style: dict):
    """What the weights have that were saved: of an average, not what its last iterate has."""
    for label, (x, values) in _collect(results, "epoch", f"{column.final}_{name}").items():
        mean = statistics.mean_std(values)[0]
        axis.plot(x[-1], mean, "o", mfc="none", ms=9, color=style[label]["color"])


def _draw_reference(axis: Axes, column: Column, name: str, style: dict):
    """The original report's curves, dashed."""
    for label, curve in column.reference.items():
        if label in style:
            x, colour = curve.get("levels", curve.get("t")), style[label]["color"]
            axis.plot(x, curve[f"{column.split}_{name}"], "--", color=colour, alpha=0.6, lw=1)
            axis.plot([], [], "--", **GREY, label="original report")


def _limit(axis: Axes, name: str, means: list[float]):
    """The range of the y axis: all of accuracy; of losses that differ much, their logarithm."""
    if name == "accuracy":
        axis.set_ylim(0, 1.02)
    elif name == "accuracy_relative":
        axis.set_ylim(0)
    elif name == "loss" and means and max(means) > 30 * min(means) > 0:
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter(NullFormatter())


def scatter(panels: list[list[Panel]], style: dict[str, dict]) -> Figure:
    """Rows of panels, a point a minimum; bars: least to most of its runs; hollow, arrow: never."""
    height, width = len(panels), len(panels[0])
    figure = Figure((1.9 * width + 0.5, 1.75 * height + 0.6), layout="constrained")
    axes = figure.subplots(height, width, squeeze=False, sharex="col", sharey="row")
    for (i, row), j in itertools.product(enumerate(panels), range(width)):
        axis, panel = axes[i, j], row[j]
        _draw_points(axis, panel, style)
        axis.set(
            xlabel="" if i + 1 < height else _wrapped(panel.x_label),
            ylabel="" if j else _wrapped(panel.y_label),
        )
        if panel.title:
            weight = "bold" if panel.bold else None
            axis.set_title(panel.title, fontsize=7, weight=weight)
        axis.locator_params(nbins=4)
    return _legend(figure)


def _draw_points(axis: Axes, panel: Panel, style: dict):
    """A point for each minimum that has both values."""
    top = 1.1 * max(panel.y[np.isfinite(panel.y)], default=1)
    points = zip(panel.settings, panel.x, panel.y, panel.least, panel.most)
    for setting, x, y, least, most in points:
        if np.isnan(x) or np.isnan(y):
            continue
        if np.isinf(y):
            point = {"y": top, "yerr": top / 20, "lolims": True, "mfc": "none"}
        else:
            # A mean of equal runs may lie beyond them by a rounding.
            point = {"y": y, "yerr": [[max(0, y - least)], [max(0, min(most, top) - y)]]}
        bars = {"ls": "", "elinewidth": 0.8, "capsize": 2}
        axis.errorbar(x, **point, **style[setting], **bars, label=setting)


def ladders(rows: dict[str, list[Climb]]) -> Figure:
    """All panels in one figure, a row a ladder; `rows`: {its heading: its panels}."""
    width = max(map(len, rows.values()))
    figure = Figure((1.5 * width, 1.9 * len(rows)), layout="constrained")
    parts = figure.subfigures(len(rows), 1, squeeze=False)[:, 0]
    for part, (heading, panels) in zip(parts, rows.items()):
        part.suptitle(heading, fontsize=8, weight="bold")
        for axis, panel in zip(part.subplots(1, width), panels):
            _draw_climb(axis, panel)
            weight = "bold" if panel.told else None
            words = [panel.title, panel.shown, panel.words, panel.change]
            title = "\n".join(textwrap.fill(line, 26) for line in words)
            axis.set_title(title, fontsize=6, weight=weight)
    figure.get_layout_engine().execute(figure)
    figure.set_layout_engine(None)
    return figure


def climb(panel: Climb) -> Figure:
    """One panel alone, as wide as the words above it on a page."""
    figure = Figure((1.4, 1.05), layout="constrained")
    _draw_climb(figure.subplots(), panel)
    figure.get_layout_engine().execute(figure)
    figure.set_layout_engine(None)
    return figure


def _draw_climb(axis: Axes, panel: Climb):
    """A thin line a seed, a thick one for their mean; rungs are numbered from 1."""
    rungs = np.arange(1, panel.by_seed.shape[1] + 1)
    for values in np.where(np.isfinite(panel.by_seed), panel.by_seed, np.nan):
        axis.plot(rungs, values, color=panel.colour, lw=0.6, alpha=0.5)
    if len(panel.by_seed):
        finite = np.isfinite(panel.by_seed).all(0)
        axis.plot(rungs[finite], panel.by_rung, "o-", color=panel.colour, lw=2.2, ms=3.5)
    axis.set(xlim=(0.7, len(rungs) + 0.3), xticks=rungs)
    if panel.log:
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter(NullFormatter())
    else:
        axis.locator_params(axis="y", nbins=4)
    axis.set_ylim(panel.limits)


def against_loss(results: list[Result], style: dict[str, dict]) -> Figure:
    """Relative distance against train loss, epoch by epoch: at one height, at equal train loss."""
    figure = Figure((4.2, 3.2), layout="constrained")
    axis = figure.subplots()
    moved = _collect(results, "epoch", "distance_relative/all")
    for label, (_, losses) in _collect(results, "epoch", "train/loss").items():
        distance = np.mean(moved[label][1], 0)
        axis.plot(np.mean(losses, 0)[1:], distance[1:], **style[label], label=label)
    axis.set(
        xscale="log",
        xlabel="train loss (nats per image)",
        ylabel="distance / norm at the start,\nall but the head",
    )
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter(
        "{x:.2g}" if np.ptp(np.log10(axis.get_xlim())) < 1 else NullFormatter()
    )
    axis.invert_xaxis()
    return _legend(figure)


def _collect(results: list[Result], axis: str, dataset: str) -> dict[str, tuple]:
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


def _wrapped(words: str) -> str:
    """Words on lines of at most 22 characters."""
    return textwrap.fill(words, 22)


def _legend(figure: Figure) -> Figure:
    """The figure with one legend below all panels, in which a label appears once.

    It is laid out for good: a layout engine would draw it twice a file.
    """
    handles = {}
    for axis in figure.axes:
        handles |= {label: handle for handle, label in zip(*axis.get_legend_handles_labels())}
    width, height = figure.get_size_inches()
    longest = max(map(len, handles), default=0)
    columns = max(1, int(width / max(1.4, LEGEND_MARK + LEGEND_LETTER * longest)))
    lines = -(-len(handles) // columns)
    figure.set_size_inches(width, height + LEGEND_LINE * max(0, lines - 1))
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=columns,
        frameon=False,
    )
    figure.get_layout_engine().execute(figure)
    figure.set_layout_engine(None)
    return figure


def svg(figure: Figure) -> str:
    """The figure as SVG: sharp at any size, its words words; black is the colour of the text."""
    out = io.StringIO()
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = out.getvalue().replace(INK, "currentColor").replace("#000000", "currentColor")
    return text[text.index("<svg") :]


def pdf(figure: Figure) -> bytes:
    """The figure as PDF, for a paper."""
    out = io.BytesIO()
    figure.savefig(out, format="pdf", metadata={"CreationDate": None})
    return out.getvalue()
