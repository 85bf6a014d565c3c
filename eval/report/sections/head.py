"""The top of the page: what it is made from, and what to know before trusting it."""

from eval.report.page import Page
from eval.report.results import grouped
from eval.report.study import Study


def add(study: Study, page: Page):
    """Profile, data, sizes, devices, code; then a warning for each caution."""
    results = study.results
    sizes = {
        f"{result.kind} {key} {result.settings[key]}"
        for result in results
        for key in ("epochs", "images")
        if key in result.settings
    }
    code, commit = (
        ", ".join(sorted({result.attrs[key] for result in results})) for key in ("code", "commit")
    )
    page.lead(
        f"Profile {study.profile}: {study.packs}; {'; '.join(sorted(sizes))}. "
        f"{devices(study)}; commit {commit}; code {code}.",
        "soft",
    )
    for note in study.notes:
        page.lead(note, "warning")


def devices(study: Study) -> str:
    """What ran on which device."""
    used = dict.fromkeys((result.attrs["device"], result.kind) for result in study.results)
    return "; ".join(
        f"{', '.join(kind for _, kind in kinds)} on {device}"
        for device, kinds in grouped(used, lambda pair: pair[0]).items()
    )
