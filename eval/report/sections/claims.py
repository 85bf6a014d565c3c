"""The original report's claims, each with its verdict on these data: its number beside ours."""

from collections import Counter
from collections.abc import Iterator

import numpy as np

from eval.report import cells, claims
from eval.report.evidence import INF, inside
from eval.report.page import Page, Table
from eval.report.panels import Interval, Panel
from eval.report.study import Study
from eval.report.styles import DOWN, OPEN, SAME

LOOKS = {
    "ours lies where the claim wants it": SAME,
    "ours does not": DOWN,
    "cannot tell": OPEN,
    "published": {"color": "#808080", "marker": "d", "markerfacecolor": "none", "ls": ""},
}
OF_PART = dict(zip(("yes", "no", "open"), LOOKS.values()))


def add(study: Study, page: Page):
    """The claims, grouped by verdict; where the data are not ImageNet's, why there are none."""
    page.heading("The original report's claims")
    if study.why_no_claims:
        page.paragraph(study.why_no_claims)
        return
    counts = Counter(claim["verdict"] for claim in study.claims)
    header = ["", "ours [95 %]", "published", "wanted", "is it", "n", "detectable"]
    lines = [line for claim in study.claims for line in in_lines(claim)]
    groups = {
        verdict: [panel(claim) for claim in study.claims if claim["verdict"] == verdict]
        for verdict in claims.VERDICTS
    }
    page.picture(
        "claims",
        {f"{words.capitalize()}: {len(some)}": some for words, some in groups.items() if some},
        f"Of {len(study.claims)} claims {counts['holds']} hold on these data and "
        f"{counts['does not hold']} do not; of {counts['cannot tell']} these data cannot tell; "
        f"{counts[claims.NOT_TESTABLE]} are {claims.NOT_TESTABLE}.",
        f"Ours, n = {cells.least_to_most(counts_of(study.claims))}, with its 95 % interval, over "
        "the original report's number (a hollow diamond; one run "
        f"a method, no interval). Grey: where the claim wants it.{compared(study)}",
        study.results,
        legend=LOOKS,
        tables=[Table("Every claim in numbers", [header, *lines], claims.METHOD)],
    )


def compared(study: Study) -> str:
    """Which of our settings stand for methods of another name, a sentence each."""
    sentences = ""
    for setting, method in (study.stands_for or {}).items():
        lacking = "" if setting in study.members else ", which this study does not have"
        sentences += f" Its {method} is held against our {setting}{lacking}."
    return sentences


def counts_of(some: list[dict]) -> list[int]:
    """The numbers of seeds, or of pairs, that claims rest on."""
    return [part["n"] for claim in some for part in claim["parts"] if part["n"]]


def panel(claim: dict) -> Panel:
    """One claim, a row for each number that it is about."""
    return Panel(
        claim["claim"],
        intervals=[
            Interval(
                part["part"],
                part["ours"],
                part["low"],
                part["high"],
                OF_PART[inside(part)],
                in_words(part),
                other=part["published"],
                region=part["region"],
            )
            for part in claim["parts"]
        ],
    )


def in_lines(claim: dict) -> Iterator[tuple]:
    """A claim as lines of a table: its verdict and what it says, then a line for each part.

    Of a part: ours, published, wanted, whether it is, n, detectable.
    """
    yield (f"{claim['verdict'].capitalize()}: {claim['claim']}",)
    for part in claim["parts"]:
        low, high = part["region"]
        outside = part["published"] <= low or high <= part["published"]
        yield (
            part["part"],
            _number(part, "ours") + _ends(part),
            _number(part, "published") + (" †" if outside else ""),
            _wanted(low, high),
            inside(part),
            part["n"] or "–",
            _number(part, "detectable"),
        )


def in_words(part: dict) -> str:
    """One number of a claim, in a sentence."""
    ours = _number(part, "ours") + _ends(part)
    return f"{part['part']}: {ours}, published {_number(part, 'published')}"


def _number(part: dict, key: str) -> str:
    """One of a part's numbers, at its digits."""
    if np.isnan(part[key]):
        return "–"
    return f"{part[key]:.{part['digits']}f}".replace("-", "−")


def _ends(part: dict) -> str:
    """The interval of a part, or the range of what it is about; nothing where there is none."""
    if not np.isfinite([part["low"], part["high"]]).all():
        return ""
    low, high = _number(part, "low"), _number(part, "high")
    if not part["every"]:
        return f" [{low},\N{NO-BREAK SPACE}{high}]"
    return f" ({low} to {high})" if part["low"] != part["high"] else ""


def _wanted(low: float, high: float) -> str:
    """A region in words."""
    if high == INF:
        words = f"> {low:g}"
    else:
        words = f"< {high:g}" if low == -INF else f"{low:g} to {high:g}"
    return words.replace("-", "−")
