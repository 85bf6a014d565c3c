"""The original report's claims, each with its verdict on these data."""

from collections import Counter

from eval.report import claims
from eval.report.page import Page
from eval.report.study import Study


def add(study: Study, page: Page):
    """How many claims hold, and a table of all of them."""
    page.heading("The original report's claims")
    counts = Counter(claim["verdict"] for claim in study.claims)
    page.paragraph(
        f"Of {len(study.claims)} claims {counts['holds']} hold on these data and "
        f"{counts['does not hold']} do not; of {counts['cannot tell']} these data cannot tell; "
        f"{counts[claims.NOT_TESTABLE]} are {claims.NOT_TESTABLE}."
    )
    header = ["", "ours [95 %]", "published", "wanted", "is it", "n", "detectable"]
    lines = [line for claim in study.claims for line in claims.lines(claim)]
    page.table([header, *lines], claims.METHOD)
