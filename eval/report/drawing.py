"""Panels drawn: each as SVG into the page, all of a picture as one SVG and one PDF for a paper.

What is black takes the colour of the text around it, so that a picture stands in a light page and
in a dark one.
"""

import io
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from eval.report.panels import LINE, MARK, Panel
from eval.report.styles import Style

INK = "#010101"  # stands for the colour of the text around the figure
WIDTH = 2.2  # inches of a panel on the page
LEFT, RIGHT, ABOVE, WIDE = 0.42, 0.07, 0.06, 0.13  # inches around its axes
COLUMN, ACROSS = 3.35, 2  # inches of a paper's column, panels in it side by side
PAGE, MANY = 6.9, 6  # inches of both columns, where a picture has more panels than this
LONG_LABEL = 22  # letters of an entry of the legend that take the room of two
SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
NO_TEXT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")  # characters that XML does not have
LONG_NUMBER = re.compile(r"(\d\.\d{2})\d+")
INKED = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
# Also over a matplotlibrc in the folder where one stands, which comes before all others.
matplotlib.rcParams.update(
    {name: value for name, value in matplotlib.rcParamsDefault.items() if name != "backend"}
    | {
        "text.parse_math": False,
        "svg.fonttype": "none",
        "svg.hashsalt": "basins",
        "pdf.fonttype": 42,  # TrueType, embedded: what journals take
        "font.size": 8,
        "axes.labelpad": 1.5,
        "axes.grid": True,
        "grid.alpha": 0.25,
        "lines.linewidth": 1.2,
        "lines.markersize": 3.5,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    | dict.fromkeys(INKED, INK)
)
for prefix, namespace in ("", SVG), ("xlink", XLINK):
    ElementTree.register_namespace(prefix, namespace)


@dataclass
class Drawn:
    """A picture: its panels and marks of its legend as SVG after "<svg"; the whole as SVG and PDF,
    as wide as a column of a paper, or as both.
    """

    panels: dict[str, list[str]]
    legend: dict[str, str]
    svg: str
    pdf: bytes


def of_panel(panel: Panel) -> str:
    """One panel as SVG, without the words above it, which the page sets."""
    figure = Figure((WIDTH, panel.height))
    left, right = (WIDE, WIDE) if panel.intervals else (LEFT, RIGHT)
    below = panel.below
    panel.draw(_axes(figure, left, below, WIDTH - left - right, panel.height - below - ABOVE))
    return svg(figure)


def _axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place in inches."""
    whole, high = figure.get_size_inches()
    return figure.add_axes((left / whole, bottom / high, width / whole, height / high))


def picture(rows: dict[str, Sequence[Panel]], legend: dict[str, Style]) -> Drawn:
    """All of a picture of {heading: its panels}: for the page panel by panel, and as a whole."""
    whole, out = as_whole(rows, legend), io.BytesIO()
    whole.savefig(out, format="pdf", metadata={"CreationDate": None})
    return Drawn(
        {heading: [_inside(of_panel(panel)) for panel in some] for heading, some in rows.items()},
        {label: _inside(marker(style)) for label, style in legend.items()},
        svg(whole, links=False).replace("<svg", '<svg style="background:#fff"', 1),
        out.getvalue(),
    )


def _inside(drawn: str) -> str:
    """The markup of a drawing after its "<svg", which the page writes."""
    return drawn.removeprefix("<svg")


def as_whole(rows: dict[str, Sequence[Panel]], legend: dict[str, Style]) -> Figure:
    """The panels side by side, their titles above them, one legend below all."""
    wide = sum(map(len, rows.values())) > MANY
    width, across = (PAGE, 2 * ACROSS) if wide else (COLUMN, ACROSS)
    each = width / across
    lines = []  # (heading, [(panel, its title)], inches of the heading, of titles, of panels)
    for heading, panels in rows.items():
        text = textwrap.fill(heading, 50 * width / COLUMN)
        for first in range(0, len(panels), across):
            some = [(panel, _title(panel)) for panel in panels[first : first + across]]
            titles = LINE * max(title.count("\n") + 1 for _, title in some)
            above = 0.08 + LINE * (text.count("\n") + 1) if text else 0
            lines.append((text, some, above, titles, 0.8 * max(panel.height for panel, _ in some)))
            text = ""
    entries = [Line2D([], [], label=label, **style) for label, style in legend.items()]
    columns = across if max(map(len, legend), default=0) < LONG_LABEL else across // 2
    below = 0.16 * -(-len(entries) // columns) + 0.05
    high = below + sum(sum(line[2:]) for line in lines)
    figure, top = Figure((width, high)), high
    for text, some, above, titles, height in lines:
        if text:
            figure.text(0.01, (top - 0.04) / high, text, va="top", fontsize=7, weight="bold")
        top -= above
        for place, (panel, title) in enumerate(some):
            left, bottom = place * each, top - titles - height
            bold = {"weight": "bold"} if panel.bold else {}
            at = (left + 0.04) / width, (top - 0.02) / high
            figure.text(*at, title, va="top", fontsize=6, **bold)
            side = 0.04 if panel.intervals else 0.36
            low = 0.85 * panel.below
            axis = _axes(figure, left + side, bottom + low, each - side - 0.08, height - low - 0.03)
            panel.draw(axis)
            axis.tick_params(labelsize=6)
            for words in (axis.xaxis.label, *axis.texts):
                words.set_fontsize(6)
        top -= titles + height
    if entries:
        looks = {"loc": "lower center", "ncols": columns, "frameon": False, "fontsize": 6.5}
        figure.legend(handles=entries, **looks)
    return figure


def _title(panel: Panel) -> str:
    """The words above a panel, on lines of 30 letters."""
    shown = f"{panel.title} ({panel.shown})" if panel.shown else panel.title
    return "\n".join(textwrap.fill(line, 30) for line in (shown, panel.said) if line)


def svg(figure: Figure, links: bool = True) -> str:
    """The figure as SVG: sharp at any size, its words words; what has words of its own shows them
    where one points at it, and leads where it should; black is the colour of the text.
    """
    out = io.StringIO()
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = as_text(out.getvalue()).replace(INK, "currentColor").replace("#000000", "currentColor")
    root = ElementTree.fromstring(text[text.index("<svg") :])
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag == f"{{{SVG}}}metadata":
                parent.remove(child)
    for element in root.iter():
        if element.tag == f"{{{SVG}}}g":
            _tell(element, element.attrib.pop("id", ""), links)
        for name in ("d", "x", "y", "transform"):
            if name in element.attrib:
                element.set(name, LONG_NUMBER.sub(r"\1", element.get(name)))
    return ElementTree.tostring(root, encoding="unicode")


def as_text(text: str) -> str:
    """`text` with a replacement character for what XML does not have."""
    return NO_TEXT.sub("\N{REPLACEMENT CHARACTER}", text)


def _tell(element: ElementTree.Element, name: str, links: bool):
    """Gives a mark its words, and its link."""
    if name.startswith(MARK):
        _, link, words = name.split("|", 2)
        title = ElementTree.Element(f"{{{SVG}}}title")
        title.text = words
        element.insert(0, title)
        if link and links:
            element.tag = f"{{{SVG}}}a"
            element.attrib |= {"href": f"#{link}", "tabindex": "-1"}


def marker(style: Style) -> str:
    """A line and its marker alone, for a legend on the page."""
    figure = Figure((0.3, 0.14))
    axis = figure.add_axes((0, 0, 1, 1), xlim=(-1, 1), ylim=(-1, 1))
    axis.set_axis_off()
    axis.plot([-0.9, 0, 0.9], [0, 0, 0], markevery=[1], **style)
    return svg(figure)
