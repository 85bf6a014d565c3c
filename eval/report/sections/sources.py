"""Where the numbers come from: every file, and the command that made it."""

from eval.report.page import Page
from eval.report.study import Study

KEYS = ("seed", "commit", "command")


def add(study: Study, page: Page):
    """A line a file."""
    page.heading("Where the numbers come from")
    results = [*study.results, *study.tuned]
    versions = " ".join(sorted({result.attrs["versions"] for result in results}))
    lines = [[result.path, *map(result.attrs.get, KEYS)] for result in results]
    page.table([["file", *KEYS], *lines], f"Versions: {versions}")
