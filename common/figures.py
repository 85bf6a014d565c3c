"""The report's figures: each function takes results (as eval.report loads them) and returns a PNG as bytes.

A line is the mean over seeds, its band the standard deviation over seeds; colour and marker belong to a method throughout.
"""
import io
import itertools

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from common import stats

COLOURS = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"  # Okabe and Ito 2008
MARKERS = "osD^vPX"
LABELS = {"loss": "loss (nats per image)", "accuracy_relative": "accuracy / clean", "all": "all parameters", "weights": "conv, linear weights", "batchnorm": "BatchNorm"}
GREY = {"color": "grey", "lw": 0.8}
matplotlib.rcParams.update({"font.size": 8, "axes.titlesize": 8, "axes.grid": True, "grid.alpha": 0.25, "lines.linewidth": 1.3,
                            "lines.markersize": 4, "axes.spines.top": False, "axes.spines.right": False})


def styles(names):
    """{name: colour and marker}, by order of appearance."""
    names = enumerate(dict.fromkeys(names))
    return {name: {"color": COLOURS[i % 7], "marker": MARKERS[(i + i // 7) % 7]} for i, name in names}


def curves(results, prefixes, style, rows=("accuracy", "loss"), classes=None, reference=None):
    """Panels of the datasets PREFIX/ROW along their axis, a row of panels for each row, a column for each prefix; a line a label.

    `classes`: their number, where chance is to be drawn. `reference`: the original report's curves, drawn dashed.
    Rings: the weights that were saved, where a file holds their final/ values (of an average: not the last iterate's).
    """
    figure = Figure((2.8 * len(prefixes) + 0.4, 2.1 * len(rows) + 0.6), dpi=150, layout="constrained")
    axes = figure.subplots(len(rows), len(prefixes), squeeze=False, sharex="col")
    for (row, name), (column, prefix) in itertools.product(enumerate(rows), enumerate(prefixes)):
        axis, (group, _, split), means = axes[row, column], prefix.rpartition("/"), []
        x = next(at for at in (f"{group}/levels", f"{group}/t", "epoch") if any(at in result.data for result in results))
        for label, (at, values) in _collect(results, x, f"{prefix}/{name}").items():
            mean, std, n = stats.mean_std(values)
            means.extend(mean[np.isfinite(mean)])
            axis.plot(at, mean, **style[label], markevery=max(1, len(at) // 10), label=label)
            if n > 1:
                axis.fill_between(at, mean - std, mean + std, color=style[label]["color"], alpha=0.2, lw=0)
        for label, (at, values) in _collect(results, "epoch", f"final/{prefix}_{name}").items():
            axis.plot(at[-1], stats.mean_std(values)[0], "o", mfc="none", ms=9, color=style[label]["color"])
        for label, curve in (reference or {}).get(group, {}).items():
            if label in style:
                at = curve.get("levels", curve.get("t"))
                axis.plot(at, curve[f"{split}_{name}"], "--", color=style[label]["color"], alpha=0.6, lw=1)
                axis.plot([], [], "--", **GREY, label="original report")
        if name == "accuracy":
            axis.set_ylim(0, 1.02)
        elif name == "accuracy_relative":
            axis.set_ylim(0)
        elif name == "loss" and means and max(means) > 30 * min(means) > 0:
            axis.set_yscale("log")
        if (prefix, name) == ("train", "accuracy"):
            axis.axhline(results[0].attrs["target"], ls="-.", **GREY, label="target")
        if classes:
            axis.axhline(1 / classes if name == "accuracy" else np.log(classes), ls=":", **GREY, label="chance")
        axis.set(title="" if row else prefix, ylabel="" if column else LABELS.get(name, name))
        axis.locator_params(axis="x", nbins=6)
        if row + 1 == len(rows):
            attrs = next((result.groups[group] for result in results if group in result.groups), None)
            axis.set_xlabel(f"{attrs['level']}\n({attrs['level_units']})" if attrs else x.split("/")[-1])
    return _png(figure)


def scatter(rows, predictors, outcomes, style):
    """Each outcome against each predictor ({key: label}), a point a minimum; bars: std over runs; hollow with an arrow: never."""
    figure = Figure((1.8 * len(predictors) + 0.4, 1.7 * len(outcomes) + 0.6), dpi=150, layout="constrained")
    axes = figure.subplots(len(outcomes), len(predictors), squeeze=False, sharex="col", sharey="row")
    for (i, outcome), (j, predictor) in itertools.product(enumerate(outcomes), enumerate(predictors)):
        top = 1.1 * max((row[outcome] for row in rows if np.isfinite(row.get(outcome, np.nan))), default=1)
        for row in (row for row in rows if predictor in row and outcome in row):
            late = {"y": top, "yerr": top / 20, "lolims": True, "mfc": "none"} if np.isinf(row[outcome]) else {}
            point = {"x": row[predictor], "y": row[outcome], "yerr": row.get(f"{outcome}_std"), **style[row["method"]]} | late
            axes[i, j].errorbar(**point, ls="", elinewidth=0.8, capsize=2, label=row["method"])
        axes[i, j].set(xlabel="" if i + 1 < len(outcomes) else predictors[predictor].replace(": ", ":\n"),
                       ylabel="" if j else outcomes[outcome].replace(" (", "\n("))
        axes[i, j].locator_params(nbins=4)
    return _png(figure)


def _collect(results, x, at):
    """{label: (x (X,), values (n, X))} of dataset `at`, a row a file: the mean of its runs (R, X) or of its repeats (X, R)."""
    found = {}
    for result in (result for result in results if at in result.data):
        axis, values = found.setdefault(result.label, (result.data[x], []))
        if not np.array_equal(axis, result.data[x]):
            raise SystemExit(f"{result.path}: its {x} is not that of the other {result.label}; make the older of the two again")
        value = result.data[at]
        values.append(value.mean(0 if x == "epoch" else 1) if value.ndim == 2 else value)
    return found


def _png(figure):
    """The figure as PNG, with one legend below all panels in which a label appears once."""
    handles = {label: handle for axis in figure.axes for handle, label in zip(*axis.get_legend_handles_labels())}
    columns = int(figure.get_figwidth() / 1.4)
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=columns, frameon=False)
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()
