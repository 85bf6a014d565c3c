"""Numbers as the tables of the page show them."""

import re
from collections.abc import Iterable
from itertools import chain
from math import floor, log10

import numpy as np

from eval.report import statistics
from eval.report.table import Value, Values

LONG = 1e7  # from here on a number is written with an exponent
Columns = list[tuple[str, dict[str, Value]]]  # title, and {minimum: value} of one quantity


def by_minimum(values: Values) -> dict[str, Value]:
    """{minimum: value} of one quantity."""
    return {value.minimum: value for value in values}


def cell(values: Iterable[Value]) -> str:
    """Of one minimum its value and interval, else mean ± std over minima.

    Of what some never reached, how many of them; of what none has, a dash.
    """
    values = [value for value in values if not np.isnan(value.value)]
    if not values:
        return "–"
    never = f"> {values[0].limit:g}" if values[0].limit > 0 else "never"
    late = sum(np.isinf(value.value) for value in values)
    if len(values) > 1 and late:
        return f"{never} in {late} of {len(values)}"
    if len(values) == 1:
        return _with_interval(values[0], never)
    mean, std, _ = statistics.mean_std([value.value for value in values])
    digits = _digits(mean)
    if 0 < std < np.inf:  # two digits of the std
        digits = min(5, max(digits, 1 - int(np.floor(np.log10(std)))))
    return f"{_text(mean, digits)} ± {_text(std, digits)}"


def number(value: float) -> str:
    """A number alone; a dash where there is none."""
    return "–" if np.isnan(value) else _text(value, _digits(value))


def least_to_most(counts: Iterable[int]) -> str:
    """2 to 4; 3 where all are the same."""
    counts = list(counts)
    return " to ".join(map(str, dict.fromkeys([min(counts, default=0), max(counts, default=0)])))


def with_ends(mean: float, low: float = np.nan, high: float = np.nan, sign: str = "") -> str:
    """−0.46 [−0.52, −0.40]: number and ends to one place, which two digits of the half width are.

    Without ends three digits; a dash where there is no number. `sign` "+": also of what is above 0.
    """
    if not np.isfinite(mean):
        return "–"
    known = bool(np.isfinite([low, high]).all() and high > low)
    size = (high - low) / 2 if known else abs(mean)
    digits = (1 if known else 2) - floor(log10(size)) if size else 0
    digits = min(6, max(0, digits))
    style = f"{sign}.3g" if max(abs(mean), size) >= LONG else f"{sign}.{digits}f"
    shown = [format(number, style) for number in ([mean, low, high] if known else [mean])]
    # Nothing is minus zero.
    first, *ends = (re.sub(r"^-(0(\.0*)?)$", r"\1", text) for text in shown)
    return (f"{first} [{', '.join(ends)}]" if ends else first).replace("-", "−")


def _text(value: float, digits: int) -> str:
    """A number with so many digits after its point; a long one as 1.23e+08."""
    return f"{value:.{digits}f}" if abs(value) < LONG else f"{value:.3g}"


def _digits(value: float) -> int:
    """Digits after the point: more of them for small numbers."""
    if 10 <= abs(value) < np.inf:
        return 1
    return 3 if abs(value) >= 0.1 else 4


def _with_interval(value: Value, never: str) -> str:
    """A value [low, high]; without the ends where they are not known, or all the same."""
    digits = _digits(value.value)
    text, low, high = (
        _text(number, digits) if np.isfinite(number) else never
        for number in (value.value, value.low, value.high)
    )
    if np.isnan([value.low, value.high]).any() or text == low == high:
        return text
    return f"{text} [{low}, {high}]"


def lines(columns: Columns, *members: dict[str, list[str]]) -> list[list[str]]:
    """Lines of a table: a header, then one for each of `members` {name: its minima}."""
    result = [["", *(title for title, _ in columns)]]
    for name, minima in chain.from_iterable(each.items() for each in members):
        shown = [
            cell(values[minimum] for minimum in minima if minimum in values)
            for _, values in columns
        ]
        result.append([name, *shown])
    return result


def turned(table: list[list[str]]) -> list[list[str]]:
    """Lines of a table as its columns."""
    return [list(line) for line in zip(*table)]
