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
matplotlib.rcParams.update({"font.size": 8, "axes.titlesize": 8, "axes.grid": True, "grid.alpha": 0.25, "lines.linewidth": 1.3,
                            "lines.markersize": 4, "axes.spines.top": False, "axes.spines.right": False})


def styles(names):
    """{name: colour and marker}, by order of appearance."""
    return {name: {"color": COLOURS[i % 7], "marker": MARKERS[(i + i // 7) % 7]} for i, name in enumerate(dict.fromkeys(names))}


def curves(results, columns, style, rows=("accuracy", "loss"), classes=None, reference=None):
    """Panels of the datasets PREFIX/ROW against X, for each row and each column (title, X, x label, PREFIX); a line a label of `style`.

    `classes`: their number, where chance is to be drawn. `reference`: the original report's curves, drawn dashed.
    Rings: the weights that were saved, where a file holds their final/ values (of an average: not the last iterate's).
    """
    share = "row" if "loss" in rows else False
    figure, axes = _panels(len(rows), len(columns), 2.8, 2.2, sharex="col", sharey=share)
    for (row, name), (column, (title, x, label, prefix)) in itertools.product(enumerate(rows), enumerate(columns)):
        axis, (group, _, split) = axes[row, column], prefix.partition("/")
        for method, curve in (reference or {}).get(group, {}).items():
            if method in style:
                axis.plot(curve.get("levels", curve.get("t")), curve[f"{split}_{name}"], "--", color=style[method]["color"], alpha=0.6, lw=1,
                          label="original report")
        for method, (at, values) in _collect(results, x, f"{prefix}/{name}").items():
            mean, std, n = stats.mean_std(values)
            axis.plot(at, mean, **style[method], markevery=max(1, len(at) // 10), label=method)
            if n > 1:
                axis.fill_between(at, mean - std, mean + std, color=style[method]["color"], alpha=0.2, lw=0)
        for method, (at, values) in _collect(results, "epoch", f"final/{prefix}_{name}").items():
            axis.plot(at[-1], stats.mean_std(values)[0], "o", mfc="none", ms=9, color=style[method]["color"])
        if name == "accuracy":
            axis.set_ylim(0, 1.02)
        elif name == "loss":
            axis.set_yscale("log")
        if (prefix, name) == ("train", "accuracy"):
            axis.axhline(results[0].attrs["target"], color="grey", lw=0.8, ls="-.", label="target")
        if classes:
            axis.axhline(1 / classes if name == "accuracy" else np.log(classes), color="grey", lw=0.8, ls=":", label="chance")
        axis.set(title="" if row else title, xlabel=label if row + 1 == len(rows) else "", ylabel="" if column and share else LABELS.get(name, name))
    return _png(figure, axes)


def scatter(rows, predictors, outcomes, style):
    """Each outcome against each predictor ({column: label}), a point a minimum; bars: std over finetuning runs; hollow with arrow: never."""
    figure, axes = _panels(len(outcomes), len(predictors), 1.8, 1.7, sharex="col", sharey="row")
    for (i, outcome), (j, predictor) in itertools.product(enumerate(outcomes), enumerate(predictors)):
        highest = max((row[outcome] for row in rows if np.isfinite(row.get(outcome, np.nan))), default=1)
        for row in rows:
            if predictor in row and outcome in row:
                never = np.isinf(row[outcome])
                axes[i, j].errorbar(row[predictor], highest * 1.1 if never else row[outcome], highest / 20 if never else row.get(f"{outcome}_std"),
                                    ls="", elinewidth=0.8, capsize=2, lolims=never, mfc="none" if never else None, **style[row["method"]],
                                    label=row["method"])
        axes[i, j].set(xlabel=predictors[predictor] if i + 1 == len(outcomes) else "", ylabel="" if j else outcomes[outcome])
        axes[i, j].locator_params(nbins=4)
    return _png(figure, axes)


def _collect(results, x, at):
    """{label: (x (X,), values (n, X))} of dataset `at`, a row a file: the mean of its runs (R, X) by epoch, or of its repeats (X, R)."""
    found = {}
    for result in results:
        if at in result.data:
            axis, values, first = found.setdefault(result.label, (result.data[x], [], result.path))
            if not np.array_equal(axis, result.data[x]):
                raise SystemExit(f"{result.path}: its {x} is not that of {first}, they cannot be averaged; make the older of them again")
            value = result.data[at]
            values.append(value.mean(0 if x == "epoch" else 1) if value.ndim == 2 else value)
    return {label: (axis, values) for label, (axis, values, _) in found.items()}


def _panels(rows, columns, width, height, **shared):
    """A figure of panels of width x height inches each, and its axes (rows, columns)."""
    figure = Figure((width * columns + 0.4, height * rows + 0.6), dpi=150, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **shared)


def _png(figure, axes):
    """The figure as PNG, with one legend below all panels in which a label appears once."""
    handles = {label: handle for axis in axes.flat for handle, label in zip(*axis.get_legend_handles_labels())}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=max(2, int(figure.get_figwidth() / 1.5)), frameon=False)
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()
