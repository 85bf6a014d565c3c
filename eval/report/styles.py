"""Colours and markers of the page: one look a setting and one a verdict, the same everywhere.

Colours that colour-blind readers tell apart (Okabe and Ito 2008), and a shape beside each.
"""

from collections.abc import Iterable

import numpy as np
from matplotlib.colors import to_hex, to_rgb

from eval.report.results import grouped

BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
COLOURS = (BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX"
GREY = "#808080"

Style = dict[str, str]  # keywords of matplotlib's lines: color, marker, …

UP = {"color": BLUE, "marker": "^"}
DOWN = {"color": ORANGE, "marker": "v"}
SAME = {"color": GREEN, "marker": "s"}
OPEN = {"color": GREY, "marker": "o", "markerfacecolor": "none"}


def styles(names: Iterable[str]) -> dict[str, Style]:
    """{name: colour and marker}, by order of appearance."""
    return {
        name: {"color": COLOURS[i % 7], "marker": MARKERS[(i + i // 7) % 7]}
        for i, name in enumerate(dict.fromkeys(names))
    }


def shades(methods: dict[str, str]) -> dict[str, Style]:
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
