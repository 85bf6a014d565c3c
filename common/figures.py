"""The report's figures: each function takes results (as eval.report loads them) and returns a PNG as bytes.

A line is the mean over seeds, its band the standard deviation over seeds; colour and marker belong to a method throughout.
"""
import io
import itertools

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from common import stats

COLOURS = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"  # Okabe and Ito 2008: safe for colour-blind readers
MARKERS = "osD^vPX"
LABELS = {"loss": "loss (nats per image)", "all": "all parameters", "weights": "conv and linear weights", "batchnorm": "BatchNorm"}
DPI = 150
matplotlib.rcParams.update({"font.size": 8, "axes.titlesize": 8, "axes.grid": True, "grid.alpha": 0.25, "lines.linewidth": 1.3,
                            "lines.markersize": 4, "axes.spines.top": False, "axes.spines.right": False})


def styles(names):
    """{name: colour and marker}, by order of appearance."""
    return {name: {"color": COLOURS[i % 7], "marker": MARKERS[(i + i // 7) % 7]} for i, name in enumerate(dict.fromkeys(names))}


def curves(results, columns, style, rows=("accuracy", "loss"), average=None, classes=None, reference=None):
    """Panels of dataset PREFIX/ROW against dataset X for each row and each column (title, X, x label, PREFIX); a line a label.

    `average`: the axis of repeats or runs. `classes`: their number, where chance is to be drawn. `reference`: the report's curves, dashed.
    Rings: the weights that were saved, where a file holds their final/ values (of an average: not the last iterate's).
    """
    figure, axes = _figure(len(rows), len(columns), 2.8, 2.2, sharex="col", sharey="row" if "loss" in rows else False)
    for (row, name), (column, (title, x, label, prefix)) in itertools.product(enumerate(rows), enumerate(columns)):
        axis, (group, _, split) = axes[row, column], prefix.partition("/")
        for method, curve in (reference or {}).get(group, {}).items():
            if method in style:
                axis.plot(curve.get("levels", curve.get("t")), curve[f"{split}_{name}"], "--", color=style[method]["color"], alpha=0.6, lw=1,
                          label="original report")
        for method, (at, values) in _collect(results, x, f"{prefix}/{name}", average).items():
            mean, std, n = stats.mean_std(values)
            axis.plot(at, mean, **style[method], markevery=max(1, len(at) // 10), label=method)
            if n > 1:
                axis.fill_between(at, mean - std, mean + std, color=style[method]["color"], alpha=0.2, lw=0)
        for method, (at, values) in _collect(results, "epoch", f"final/{prefix}_{name}").items():
            axis.plot(at[-1], stats.mean_std(values)[0], "o", mfc="none", ms=9, color=style[method]["color"])
        if name == "accuracy":
            axis.set_ylim(0, 1.02)
            if prefix == "train":
                axis.axhline(results[0].attrs["target"], color="grey", lw=0.8, ls="-.", label="target")
        elif name == "loss":
            axis.set_yscale("log")
        if classes:
            axis.axhline(1 / classes if name == "accuracy" else np.log(classes), color="grey", lw=0.8, ls=":", label="chance")
        axis.set(title="" if row else title, xlabel=label if row + 1 == len(rows) else "", ylabel="" if column and "loss" in rows else LABELS.get(name, name))
    return _png(figure, axes)


def scatter(rows, predictors, outcomes, style):
    """Each outcome against each predictor ({column: label}), one point a minimum; bars: std over finetuning runs; hollow, arrow: never."""
    figure, axes = _figure(len(outcomes), len(predictors), 1.8, 1.7, sharex="col", sharey="row")
    for (i, outcome), (j, predictor) in itertools.product(enumerate(outcomes), enumerate(predictors)):
        highest = max((row[outcome] for row in rows if np.isfinite(row.get(outcome, np.nan))), default=1)
        for row in rows:
            if predictor in row and outcome in row:
                never = np.isinf(row[outcome])
                axes[i, j].errorbar(row[predictor], highest * 1.1 if never else row[outcome], highest / 20 if never else row.get(f"{outcome}_std"),
                                    ls="", elinewidth=0.8, capsize=2, lolims=never, mfc="none" if never else None, **style[row["method"]],
                                    label=row["method"])
        axes[i, j].set(xlabel=predictors[predictor], ylabel=outcomes[outcome])
        axes[i, j].label_outer()
        axes[i, j].locator_params(nbins=4)
    return _png(figure, axes)


def tuning(tried):
    """Val accuracy by epoch of the settings tried: {thing tuned: [(words, epochs, accuracy), …], the chosen first}, a panel a thing."""
    figure, axes = _figure(1, len(tried), 3.6, 3.2)
    for axis, (thing, settings) in zip(axes.flat, tried.items()):
        look = styles(words for words, *_ in settings)
        for place, (words, epochs, accuracy) in enumerate(settings):
            axis.plot(epochs, accuracy, **look[words], label=words if place else f"{words} (chosen)", lw=1 if place else 3)
        axis.set(title=thing, xlabel="epoch", ylabel="val accuracy")
        axis.legend(fontsize=6)
    return _png(figure)


def _collect(results, x, at, average=None):
    """{label: (x (X,), values (n, X))} of dataset `at`, one row a file."""
    found = {}
    for result in results:
        if at in result.data:
            axis, values, first = found.setdefault(result.label, (result.data[x], [], result.path))
            if not np.array_equal(axis, result.data[x]):
                raise SystemExit(f"{result.path}: its {x} is not that of {first}, they cannot be averaged; make the older of them again")
            values.append(result.data[at] if average is None else result.data[at].mean(average))
    return {label: (axis, values) for label, (axis, values, _) in found.items()}


def _figure(rows, columns, width, height, **shared):
    """A figure of panels of width x height inches each, and its axes (rows, columns)."""
    figure = Figure((width * columns + 0.4, height * rows + 0.6), dpi=DPI, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **shared)


def _png(figure, axes=None):
    """The figure as PNG; with `axes`, one legend below all of them, in which a label appears once."""
    if axes is not None:
        handles = {label: handle for axis in axes.flat for handle, label in zip(*axis.get_legend_handles_labels())}
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=max(2, int(figure.get_figwidth() / 1.4)), frameon=False)
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()
