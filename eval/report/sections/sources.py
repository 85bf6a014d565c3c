"""Every minimum, and where its numbers come from: each file, and the command that made it."""

import os
from collections.abc import Iterator

from eval.report import cells
from eval.report.page import Page
from eval.report.results import Result, grouped
from eval.report.study import Study
from eval.report.table import MEASURED

HEADER = ["file", "groups of HDF5", "seed", "commit", "command"]


def add(study: Study, page: Page):
    """Sizes, devices and code; then a group of lines a minimum."""
    page.heading("Every minimum, and where its numbers come from")
    page.paragraph(made_by(study))
    versions = " ".join(
        sorted({result.attrs["versions"] for result in [*study.results, *study.tuned]})
    )
    page.listing(
        HEADER,
        lines(study, page),
        "--setting names flags of its own, which replace those in the command. Means, intervals "
        f"and verdicts are computed from these files by eval.report. Versions: {versions}",
    )


def lines(study: Study, page: Page) -> Iterator[dict]:
    """For each setting its minima, for each of them a line a file; then pairs, then tuning."""
    of_minimum = grouped(study.results, lambda result: result.minimum)
    for setting, minima in study.members.items():
        many = "minimum" if len(minima) == 1 else "minima"
        yield {"text": f"{setting}: {len(minima)} {many}", "anchor": study.links[setting]}
        for minimum in minima:
            yield {"text": in_words(study, minimum), "anchor": study.links[minimum]}
            yield from (line(result, page) for result in of_minimum[minimum])
    for result in study.of_kind("comparison"):
        yield line(result, page)
    for result in study.tuned:
        yield line(result, page)


def in_words(study: Study, minimum: str) -> str:
    """What one minimum is: its seed, its accuracy before and after finetuning."""
    values = study.values.where(minimum=minimum)
    clean = values.where(**MEASURED, source="clean", split="test", name="accuracy")
    words = [f"{minimum}: seed {study.minima.set_index('minimum')['seed'][minimum]}"]
    words += [f"clean test accuracy {cells.cell([value])}" for value in clean]
    for finetuning in study.finetunings:
        fields = finetuning.fields | {"split": "test", "name": "accuracy"}
        words += [
            f"after {finetuning.label} finetuning {cells.cell([value])}"
            for value in values.where(**fields)
        ]
    return "; ".join(words)


def line(result: Result, page: Page) -> dict:
    """One file: where it lies, what is in it, what made it."""
    groups = result.groups or {name.partition("/")[0]: {} for name in result.data if "/" in name}
    attrs = result.attrs
    return {
        "link": os.path.relpath(result.path, page.folder),
        "cells": [
            result.path,
            " ".join(f"/{name}" for name in groups),
            attrs["seed"],
            attrs["commit"],
            attrs["command"],
        ],
    }


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
