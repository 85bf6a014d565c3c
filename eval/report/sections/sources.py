"""Where the numbers come from: every file, and the command that made it."""

from eval.report.page import Page
from eval.report.results import grouped
from eval.report.study import Study

KEYS = ("seed", "commit", "command")


def add(study: Study, page: Page):
    """Sizes, devices and code on top of the page; below, a line a file."""
    page.lead(made_by(study), "soft")
    page.heading("Where the numbers come from")
    results = [*study.results, *study.tuned]
    versions = " ".join(sorted({result.attrs["versions"] for result in results}))
    lines = [[result.path, *map(result.attrs.get, KEYS)] for result in results]
    page.table([["file", *KEYS], *lines], f"Versions: {versions}")


def made_by(study: Study) -> str:
    """Sizes, devices, commit and code."""
    sizes = {
        f"{result.kind} {key} {result.settings[key]}"
        for result in study.results
        for key in ("epochs", "images")
        if key in result.settings
    }
    code, commit = (
        ", ".join(sorted({result.attrs[key] for result in study.results}))
        for key in ("code", "commit")
    )
    return f"{'; '.join([*sorted(sizes), devices(study)])}; commit {commit}; code {code}."


def devices(study: Study) -> str:
    """What ran on which device."""
    used = dict.fromkeys((result.attrs["device"], result.kind) for result in study.results)
    return "; ".join(
        f"{', '.join(kind for _, kind in kinds)} on {device}"
        for device, kinds in grouped(used, lambda pair: pair[0]).items()
    )
