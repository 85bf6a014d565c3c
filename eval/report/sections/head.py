"""What was run, and what to know before trusting the answer."""

from eval.report.page import Page
from eval.report.study import Study


def add(study: Study, page: Page):
    """Profile, images and sizes in a line; what whoever made the study wants to be known."""
    for text in [what_was_run(study), *study.said]:
        page.lead(text, "soft")


def add_warnings(study: Study, page: Page):
    """A warning for each caution."""
    for note in study.notes:
        page.lead(note, "warning")


def what_was_run(study: Study) -> str:
    """Images, settings, seeds and runs."""
    seeds = study.minima["seed"].nunique()
    settings = counted(len(study.members), "setting", "settings")
    minima = counted(len(study.minima), "minimum", "minima")
    but = f"; {study.fewer_seeds}" if study.fewer_seeds else ""
    words = f"{minima} ({settings} x {counted(seeds, 'seed', 'seeds')}{but})"
    if study.asked:
        runs = {len(result.data["epochs_to_target"]) for result in study.asked.results}
        many = " or ".join(counted(count, "run", "runs") for count in sorted(runs))
        words += f", each finetuned in {many} ({study.asked.mode} on {study.asked.task})"
    return f"Profile {study.profile}: {study.packs}; {words}."


def counted(count: int, one: str, many: str) -> str:
    """1 minimum, 2 minima."""
    return f"{count} {one if count == 1 else many}"
