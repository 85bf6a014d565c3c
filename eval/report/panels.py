"""A panel: one small picture on one pair of axes. All pictures of the page are rows of panels.

A panel is data: lines, points and intervals, each with the words that it shows where somebody
points at it. `draw` puts them on axes of matplotlib; eval/report/drawing.py makes files of them.
Names are data: a $ in one begins no formula.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import MaxNLocator, NullFormatter

from eval.report.styles import GREY, Style

FAR_APART = 30  # the largest value over the least, beyond which an axis is logarithmic
ROW = 0.34  # inches of an interval and the words above it
LETTERS = 34  # of those words, and of a line below
LINE = 0.13  # inches of a line of words
MARK = "mark|"  # begins the id of what has words of its own, and leads somewhere


@dataclass
class Line:
    """A curve; with `band`, a half width at each point."""

    x: Sequence[float]
    y: Sequence[float]
    style: Style
    words: str = ""
    link: str = ""
    band: Sequence[float] | None = None
    rings: bool = False  # points alone, as rings: of the weights that were saved
    label: str = ""  # in the legend


@dataclass
class Point:
    """A minimum; a bar from `least` to `most` where they are known; `y` may be inf: never."""

    x: float
    y: float
    style: Style
    words: str = ""
    link: str = ""
    least: float = np.nan
    most: float = np.nan
    label: str = ""  # in the legend


@dataclass
class Interval:
    """A row of a forest plot: a number, its interval where it has one, the words above it.

    `other`: a number to hold beside it, drawn as a hollow diamond; `region`: where it is wanted.
    """

    label: str
    mean: float
    low: float
    high: float
    style: Style
    words: str = ""
    link: str = ""
    other: float = np.nan
    region: tuple[float, float] | None = None


@dataclass
class Panel:
    """One small picture. `said`: what is to be seen in it, `bold` where that is a verdict."""

    title: str
    said: str = ""
    bold: bool = False
    lines: list[Line] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    intervals: list[Interval] = field(default_factory=list)
    x_label: str = ""
    shown: str = ""  # what the y axis shows
    x_limits: tuple[float | None, float | None] = (None, None)
    y_limits: tuple[float | None, float | None] = (None, None)
    bounds: tuple[float, float] = (-np.inf, np.inf)  # what y can be: bands end there
    log_x: bool = False
    log_y: bool = False
    down: bool = False  # x falls from left to right
    ticks: Sequence[float] | None = None  # of x
    tick_words: Sequence[str] | None = None
    levels: dict[str, tuple[float, str]] = field(default_factory=dict)  # {name: (y, line style)}
    zero: bool = False  # a line at x = 0
    inside: float = np.nan  # x from minus this to this is shaded

    @property
    def height(self) -> float:
        """Inches."""
        body = 0.1 + ROW * len(self.intervals) if self.intervals else 1.1
        return body + self.below

    @property
    def below(self) -> float:
        """Inches below the axes: of the numbers and the words of x."""
        return 0.25 + LINE * (1 + self.words_of_x.count("\n"))

    @property
    def words_of_x(self) -> str:
        """The label of x, on lines that a panel holds."""
        return textwrap.fill(self.x_label, LETTERS if self.intervals else LETTERS - 6)

    @property
    def described(self) -> str:
        """The panel in words, for who does not see it."""
        axes = " against ".join(word for word in (self.shown, self.x_label) if word)
        marks = [*self.lines, *self.points, *self.intervals]
        words = "; ".join(dict.fromkeys(mark.words for mark in marks if mark.words))
        head = f"{self.title} ({axes})" if axes else self.title
        return ": ".join(word for word in (head, self.said, words or "no values") if word)

    def draw(self, axis: Axes):
        """Draws it, but for the words above it."""
        for name, (y, dashes) in self.levels.items():
            axis.axhline(y, color=GREY, lw=0.8, ls=dashes, label=name)
        for line in self.lines:
            self._draw_line(axis, line)
        self._draw_points(axis)
        if self.intervals:
            self._draw_intervals(axis)
        self._scale(axis)

    def _draw_line(self, axis: Axes, line: Line):
        x, y = np.asarray(line.x, float), np.asarray(line.y, float)
        y = np.where(np.isfinite(y), y, np.nan)
        gid = mark(line.words, line.link)
        if line.rings:
            axis.plot(x, y, "o", mfc="none", ms=8, color=line.style["color"], gid=gid)
            return
        every = max(1, len(x) // 8)
        axis.plot(x, y, **{"markevery": every} | line.style, gid=gid)
        if line.band is not None and np.isfinite(line.band).any():
            low, high = np.clip([y - line.band, y + line.band], *self.bounds)
            axis.fill_between(x, low, high, color=line.style["color"], alpha=0.2, lw=0)

    def _draw_points(self, axis: Axes):
        finite = [point.y for point in self.points if np.isfinite(point.y)]
        top = 1.1 * max(finite, default=1)
        for point in self.points:
            if not np.isfinite(point.x) or np.isnan(point.y):
                continue
            y, gid, style = min(point.y, top), mark(point.words, point.link), dict(point.style)
            if np.isfinite([point.least, point.most]).any():
                ends = np.clip([point.least, point.most], None, top)
                axis.plot([point.x] * 2, ends, color=style["color"], lw=0.8)
            if np.isinf(point.y):
                style |= {"markerfacecolor": "none", "marker": "^"}
            axis.plot([point.x], [y], ls="", **style, gid=gid)

    def _draw_intervals(self, axis: Axes):
        """From top to bottom; words stand above each, from the left edge."""
        least, most = self._span()
        inside = (-self.inside, self.inside) if np.isfinite(self.inside) else None
        for place, row in enumerate(self.intervals):
            y, colour = place + 0.66, row.style["color"]
            if region := row.region or inside:
                low, high = np.clip(region, least, most)
                axis.fill_betweenx([y - 0.22, y + 0.22], low, high, color=GREY, alpha=0.2, lw=0)
            if self.zero:
                axis.plot([0, 0], [y - 0.18, y + 0.18], color=GREY, lw=0.8)
            if np.isfinite([row.low, row.high]).all():
                axis.plot([row.low, row.high], [y, y], color=colour, lw=1.6)
            if np.isfinite(row.mean):
                gid = mark(row.words, row.link)
                axis.plot([row.mean], [y], ls="", ms=5.5, **row.style, gid=gid)
            if np.isfinite(row.other):
                axis.plot([row.other], [y], "d", mfc="none", ms=6, color=colour)
            axis.text(
                0.01,
                place + 0.08,
                shortened(row.label),
                transform=axis.get_yaxis_transform(),
                va="top",
                fontsize=7,
            )
        axis.set_ylim(len(self.intervals), 0)
        axis.set_yticks([])
        axis.spines["left"].set_visible(False)
        axis.grid(False)
        axis.set_xlim(least, most)

    def _span(self) -> tuple[float, float]:
        """The ends of the x axis: all numbers, with room, and 0 where it counts."""
        numbers = [
            number
            for row in self.intervals
            for number in (row.mean, row.low, row.high, row.other, *(row.region or ()))
            if np.isfinite(number)
        ]
        numbers += [0] * self.zero
        if np.isfinite(self.inside):
            numbers += [-self.inside, self.inside]
        low, high = min(numbers, default=0), max(numbers, default=1)
        room = 0.06 * (high - low) or 0.1 * abs(high) or 0.1
        return low - room, high + room

    def _scale(self, axis: Axes):
        """Limits, ticks and labels."""
        axis.xaxis.set_major_locator(MaxNLocator(4))
        if not self.intervals:  # their rows are no numbers
            axis.yaxis.set_major_locator(MaxNLocator(5))
        if self.log_x:
            axis.set_xscale("log")
            plain_numbers(axis.xaxis)
        if self.log_y:
            axis.set_yscale("log")
            plain_numbers(axis.yaxis)
        if self.ticks is not None:
            axis.set_xticks(self.ticks, self.tick_words)
        if self.x_limits != (None, None):
            axis.set_xlim(*self.x_limits)
        if self.y_limits != (None, None):
            axis.set_ylim(*self.y_limits)
        if self.down:
            axis.invert_xaxis()
        axis.set_xlabel(self.words_of_x)


def plain_numbers(axis: Axis):
    """On a logarithmic axis 0.1, not a power of ten."""
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def mark(words: str, link: str) -> str | None:
    """The id of an element that shows `words` where somebody points at it; None without any."""
    return f"{MARK}{link}|{words}" if words else None


def shortened(words: str) -> str:
    """At most LETTERS letters of it."""
    return words if len(words) <= LETTERS else f"{words[: LETTERS - 1]}…"


def range_of(values: Sequence[float], least: float = 0) -> tuple[tuple[float, float], bool]:
    """(the ends of an axis that holds all finite values, whether it is logarithmic).

    `least`: what the axis spans at least, so that noise does not look like an effect.
    """
    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    if not len(values):
        return (0, 1), False
    low, high = values.min(), values.max()
    wanting = max(0, least - (high - low)) / 2
    low, high = low - wanting, high + wanting
    if high > FAR_APART * low > 0:
        return (low / 1.3, high * 1.3), True
    room = 0.08 * (high - low) or 0.1 * abs(high) or 0.1
    return (low - room, high + room), False
