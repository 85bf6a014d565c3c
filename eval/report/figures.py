"""The report's figures: each function takes results (as common.study loads them) and returns a matplotlib Figure; `svg` and `pdf` write it.

A line is the mean over seeds, its band the standard deviation over seeds; colour and marker belong to a method throughout. What is black takes
the colour of the text around it, so that a figure stands in a light page and in a dark one.
"""

import io
import itertools
import json
import textwrap

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from eval.report import statistics

COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
)  # Okabe and Ito 2008
INK = "#010101"  # stands for the colour of the text around the figure
MARKERS = "osD^vPX"
LABELS = {
    "loss": "loss (nats per image)",
    "accuracy_relative": "accuracy / clean",
    "accuracy": "accuracy (fraction)",
    "t": "position t on the line",
    "all": "all but the head",
    "with_head": "with the new head",
    "weights": "conv, linear weights",
    "batchnorm": "BatchNorm",
    "distance": "distance (Euclidean norm)",
    "distance_relative": "distance / norm at the start",
    "path": "length of the path (Euclidean norm)",
}
GREY = {"color": "grey", "lw": 0.8}
INKED = dict.fromkeys(
    ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK
)
matplotlib.rcParams.update(
    {
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
    | INKED
)


def published(path):
    """The published curves as they are drawn behind ours: {group: {method: curve}}, none without a file."""
    reference = json.loads(path.read_text()) if path else {}
    for curve in reference.get("square_mask", {}).values():
        curve["levels"] = [
            side / 112 for side in curve["levels"]
        ]  # published in pixels of 112; ours is a fraction of the side
    swept = [
        curve
        for group in reference.values()
        if isinstance(group, dict)
        for curve in group.values()
        if isinstance(curve, dict) and "levels" in curve
    ]
    for curve, split in ((curve, split) for curve in swept for split in ("train", "test")):
        curve[f"{split}_accuracy_relative"] = np.divide(
            curve[f"{split}_accuracy"], curve[f"{split}_accuracy"][0]
        )
    return reference


def styles(names):
    """{name: colour and marker}, by order of appearance."""
    names = enumerate(dict.fromkeys(names))
    return {
        name: {"color": COLOURS[i % 7], "marker": MARKERS[(i + i // 7) % 7]} for i, name in names
    }


def curves(results, prefixes, style, rows=("accuracy", "loss"), classes=None, reference=None):
    """Panels of the datasets PREFIX/ROW along their axis, a row of panels for each row, a column for each prefix; a line a label.

    `classes`: their number, where chance is to be drawn. `reference`: the original report's curves, drawn dashed.
    Rings: the weights that were saved, where a file holds their final/ values (of an average: not the last iterate's).
    """
    figure = Figure((2.8 * len(prefixes) + 0.4, 2.1 * len(rows) + 0.6), layout="constrained")
    axes = figure.subplots(len(rows), len(prefixes), squeeze=False, sharex="col")
    for (row, name), (column, prefix) in itertools.product(enumerate(rows), enumerate(prefixes)):
        axis, (group, _, split), means = axes[row, column], prefix.rpartition("/"), []
        x = next(
            at
            for at in (f"{group}/levels", f"{group}/t", "epoch")
            if any(at in result.data for result in results)
        )
        for label, (at, values) in _collect(results, x, f"{prefix}/{name}").items():
            mean, std, n = statistics.mean_std(values)
            means.extend(mean[np.isfinite(mean)])
            axis.plot(at, mean, **style[label], markevery=max(1, len(at) // 10), label=label)
            if n > 1:
                axis.fill_between(
                    at, mean - std, mean + std, color=style[label]["color"], alpha=0.2, lw=0
                )
        for label, (at, values) in _collect(results, "epoch", f"final/{prefix}_{name}").items():
            axis.plot(
                at[-1],
                statistics.mean_std(values)[0],
                "o",
                mfc="none",
                ms=9,
                color=style[label]["color"],
            )
        for label, curve in (reference or {}).get(group, {}).items():
            if label in style:
                at = curve.get("levels", curve.get("t"))
                axis.plot(
                    at, curve[f"{split}_{name}"], "--", color=style[label]["color"], alpha=0.6, lw=1
                )
                axis.plot([], [], "--", **GREY, label="original report")
        if name == "accuracy":
            axis.set_ylim(0, 1.02)
        elif name == "accuracy_relative":
            axis.set_ylim(0)
        elif name == "loss" and means and max(means) > 30 * min(means) > 0:
            axis.set_yscale("log")
            axis.yaxis.set_major_formatter("{x:g}")
        if (prefix, name) == ("train", "accuracy"):
            axis.axhline(results[0].attrs["target"], ls="-.", **GREY, label="target")
        if classes:
            axis.axhline(
                1 / classes if name == "accuracy" else np.log(classes),
                ls=":",
                **GREY,
                label="chance",
            )
        axis.set(
            title="" if row else LABELS.get(prefix, prefix.replace("_", " ").replace("/", ": ")),
            ylabel="" if column else LABELS.get(name, name),
        )
        axis.locator_params(axis="x", nbins=6)
        if row + 1 == len(rows):
            attrs = next(
                (result.groups[group] for result in results if group in result.groups), None
            )
            axis.set_xlabel(
                f"{attrs['level']}\n({attrs['level_units']})"
                if attrs
                else LABELS.get(x.split("/")[-1], "epoch")
            )
    return _legend(figure)


def scatter(rows, tests, predictors, outcomes, mode, style):
    """Each outcome against each predictor ({column: words}), a point a minimum; bars: least to most of its runs; hollow with an arrow: never.

    `tests`: the correlations of each pair, outcome by outcome (verdicts.family).
    """
    figure = Figure((1.9 * len(predictors) + 0.5, 1.75 * len(outcomes) + 0.6), layout="constrained")
    axes, tests = (
        figure.subplots(len(outcomes), len(predictors), squeeze=False, sharex="col", sharey="row"),
        iter(tests),
    )
    for (i, name), (j, predictor) in itertools.product(enumerate(outcomes), enumerate(predictors)):
        axis, test, outcome = axes[i, j], next(tests), f"{mode}_{name}"
        top = 1.1 * max(
            (row[outcome] for row in rows if np.isfinite(row.get(outcome, np.nan))), default=1
        )
        for row in (row for row in rows if predictor in row and outcome in row):
            y, least, most = row[outcome], row[f"{outcome}_least"], row[f"{outcome}_most"]
            point = (
                {"y": top, "yerr": top / 20, "lolims": True, "mfc": "none"}
                if np.isinf(y)
                else {"y": y, "yerr": [[y - least], [min(most, top) - y]]}
            )
            axis.errorbar(
                row[predictor],
                **point,
                **style[row["method"]],
                ls="",
                elinewidth=0.8,
                capsize=2,
                label=row["method"],
            )
        axis.set(
            xlabel="" if i + 1 < len(outcomes) else _wrapped(predictors[predictor]),
            ylabel="" if j else _wrapped(outcomes[name]),
        )
        if np.isfinite(test["r"]):
            axis.set_title(
                f"r = {test['r']:+.2f}: {test['verdict']}",
                fontsize=7,
                weight="bold" if test["verdict"] != "cannot tell" else None,
            )
        axis.locator_params(nbins=4)
    return _legend(figure)


def against_loss(results, style):
    """Relative distance travelled against train loss, epoch by epoch: at one height, minima are compared at equal train loss."""
    figure = Figure((4.2, 3.2), layout="constrained")
    axis = figure.subplots()
    for label, (_, losses) in _collect(results, "epoch", "train/loss").items():
        moved = np.mean(_collect(results, "epoch", "distance_relative/all")[label][1], 0)
        axis.plot(np.mean(losses, 0)[1:], moved[1:], **style[label], label=label)
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


def _wrapped(words):
    """Words on lines of at most 22 characters."""
    return textwrap.fill(words, 22)


def _collect(results, x, at):
    """{label: (x (X,), values (n, X))} of dataset `at`, a row a file: the mean of its runs (R, X) or of its repeats (X, R)."""
    found = {}
    for result in (result for result in results if at in result.data):
        axis, values = found.setdefault(result.label, (result.data[x], []))
        if not np.array_equal(axis, result.data[x]):
            raise SystemExit(
                f"{result.path}: its {x} is not that of the other {result.label}; make the older of the two again"
            )
        value = result.data[at]
        values.append(value.mean(0 if x == "epoch" else 1) if value.ndim == 2 else value)
    return found


def _legend(figure):
    """The figure with one legend below all panels in which a label appears once, laid out for good: a layout engine would draw it twice a file."""
    handles = {
        label: handle
        for axis in figure.axes
        for handle, label in zip(*axis.get_legend_handles_labels())
    }
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=max(1, int(figure.get_figwidth() / 1.4)),
        frameon=False,
    )
    figure.get_layout_engine().execute(figure)
    figure.set_layout_engine(None)
    return figure


def svg(figure):
    """The figure as SVG text: sharp at any size, its words words; what is black takes the colour of the text around."""
    out = io.StringIO()
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = out.getvalue().replace(INK, "currentColor").replace("#000000", "currentColor")
    return text[text.index("<svg") :]


def pdf(figure):
    """The figure as PDF, for a paper."""
    out = io.BytesIO()
    figure.savefig(out, format="pdf", metadata={"CreationDate": None})
    return out.getvalue()
