"""Panels drawn: each as SVG into the page, all of a picture as one SVG and one PDF for a paper.

What is black takes the colour of the text around it, so that a picture stands in a light page and
in a dark one.
"""

import io
import re
import textwrap
from collections.abc import Iterator, Sequence
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


@dataclass
class Strip:
    """Panels side by side in the whole, below a heading where they are the first of their row."""

    heading: str  # on lines of its own
    panels: Sequence[Panel]

    @property
    def of_heading(self) -> float:
        """Inches of the heading."""
        return 0.08 + LINE * (self.heading.count("\n") + 1) if self.heading else 0

    @property
    def of_titles(self) -> float:
        """Inches of the words above the panels."""
        return LINE * max(_title(panel).count("\n") + 1 for panel in self.panels)

    @property
    def of_panels(self) -> float:
        """Inches of the panels: smaller than on the page."""
        return 0.8 * max(panel.height for panel in self.panels)

    @property
    def height(self) -> float:
        return self.of_heading + self.of_titles + self.of_panels


def strips(rows: dict[str, Sequence[Panel]], letters: int, across: int) -> Iterator[Strip]:
    """Rows of panels, so many side by side, headings on lines of so many letters."""
    for heading, panels in rows.items():
        for first in range(0, len(panels), across):
            words = "" if first else textwrap.fill(heading, letters)
            yield Strip(words, panels[first : first + across])


def as_whole(rows: dict[str, Sequence[Panel]], legend: dict[str, Style]) -> Figure:
    """The panels side by side, their titles above them, one legend below all."""
    wide = sum(map(len, rows.values())) > MANY
    width, across, letters = (PAGE, 2 * ACROSS, 100) if wide else (COLUMN, ACROSS, 50)
    some = list(strips(rows, letters, across))
    columns = across if max(map(len, legend), default=0) < LONG_LABEL else across // 2
    of_legend = 0.05 + 0.16 * -(-len(legend) // columns)
    figure = Figure((width, of_legend + sum(strip.height for strip in some)))
    top = figure.get_figheight()
    for strip in some:
        if strip.heading:
            _words(figure, 0.04, top - 0.04, strip.heading, 7, True)
        top -= strip.of_heading
        for place, panel in enumerate(strip.panels):
            _add(figure, strip, panel, place * width / across, top, width / across)
        top -= strip.of_titles + strip.of_panels
    if legend:
        figure.legend(
            handles=[Line2D([], [], label=label, **style) for label, style in legend.items()],
            loc="lower center",
            ncols=columns,
            frameon=False,
            fontsize=6.5,
        )
    return figure


def _add(figure: Figure, strip: Strip, panel: Panel, left: float, top: float, width: float):
    """One panel of a strip, and the words above it, into the whole."""
    _words(figure, left + 0.04, top - 0.02, _title(panel), 6, panel.bold)
    side, below = 0.04 if panel.intervals else 0.36, 0.85 * panel.below
    bottom = top - strip.of_titles - strip.of_panels + below
    place = left + side, bottom, width - side - 0.08, strip.of_panels - below - 0.03
    axis = _axes(figure, *place)
    panel.draw(axis)
    axis.tick_params(labelsize=6)
    for words in (axis.xaxis.label, *axis.texts):
        words.set_fontsize(6)


def _words(figure: Figure, left: float, top: float, text: str, size: float, bold: bool):
    """Words at a place in inches."""
    width, height = figure.get_size_inches()
    weight = {"weight": "bold"} if bold else {}
    figure.text(left / width, top / height, text, va="top", fontsize=size, **weight)


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
