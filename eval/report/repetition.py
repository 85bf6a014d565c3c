"""The same study on other images: do its verdicts repeat?

An earlier study is read from its results.json, which holds every change, seed by seed. It must have
the ladders of this one, rung by rung, and other images.

    rows = repetition.compared(repetition.read(path), findings)
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from eval.report import ladders, statistics
from eval.report.agreements import Findings
from eval.report.fixed_in_advance import OUTCOMES, Measure, Outcome
from eval.report.ladders import CANNOT_TELL, Followed, Moved
from eval.report.statistics import Estimate

REPEATS, DIFFERS = "repeats", "differs"
IN_ONE, IN_NEITHER = "is told in one alone", "is told in neither"


@dataclass(frozen=True)
class Earlier:
    """What an earlier study found along its ladders."""

    path: Path
    data: str  # what it was pretrained and finetuned on
    classes: list[str]  # of pretraining
    images: list[str]  # of pretraining: the fingerprints of their packs
    rungs: dict[str, list[str]]  # {ladder: [setting of each rung]}
    told: dict[tuple[str, str], str]  # {(ladder, key of a measure or an outcome): its verdict}
    changes: dict[tuple[str, str], list[float]]  # a change a seed


@dataclass(frozen=True)
class Row:
    """A measure or an outcome along one ladder, in the earlier study and in this one."""

    ladder: str
    quantity: Measure | Outcome
    there: Estimate
    here: Estimate
    difference: Estimate  # here - there
    told_there: str
    told_here: str

    @property
    def verdict(self) -> str:
        """Whether what was told there is told here."""
        told = self.told_there, self.told_here
        if told[0] == told[1]:
            return IN_NEITHER if told[0] == CANNOT_TELL else REPEATS
        return IN_ONE if CANNOT_TELL in told else DIFFERS


def read(path: Path) -> Earlier:
    """The ladders of a results.json. SystemExit with one line where it is none, or has none."""
    try:
        found = json.loads(path.read_text())
        climbed = found["ladders"]["ladders"]
        rows = [(each["name"], row) for each in climbed for row in rows_of(each)]
        return Earlier(
            path,
            found["data"],
            found["classes"],
            found["images"],
            {each["name"]: each["rungs"] for each in climbed},
            {(name, key_of(row)): told(row) for name, row in rows},
            {(name, key_of(row)): row["along"]["changes"] for name, row in rows},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise SystemExit(
            f"{path}: no results.json of a study with ladders; --earlier takes the one that the "
            "report of the earlier study left beside its page"
        ) from None


def rows_of(ladder: dict) -> list[dict]:
    """All measures and outcomes of a ladder."""
    return [*ladder["measures"], *ladder["outcomes"]]


def key_of(row: dict) -> str:
    """What a row is of."""
    return (row.get("measure") or row["outcome"])["key"]


def told(row: dict) -> str:
    """The verdict of a row: of an outcome's, as it stands; of a measure, what it became."""
    if "verdict" in row:
        return row["verdict"]
    measure, change = row["measure"], row["along"]["change"]["mean"]
    return ladders.became(row["moved"], change, measure["more_is_robust"])


def compared(earlier: Earlier, found: Findings, images: list[str]) -> list[Row]:
    """All measures and outcomes of all ladders, there and here.

    `images`: the fingerprints of the packs that this study pretrained on. SystemExit with one line
    where the earlier study lacks a ladder of this one, or has its images.
    """
    if set(earlier.images).intersection(images):
        raise SystemExit(
            f"{earlier.path}: is of the same images as this study; --earlier takes one of others"
        )
    for ladder in found.ladders:
        if earlier.rungs.get(ladder.name) != ladder.rungs:
            rungs = " ".join(earlier.rungs.get(ladder.name, ["none"]))
            raise SystemExit(
                f"{earlier.path}: its ladder {ladder.name} has other rungs ({rungs}) than this "
                f"study's ({' '.join(ladder.rungs)}); --earlier takes the same study on other "
                "images"
            )
    return list(_rows(earlier, found))


def _rows(earlier: Earlier, found: Findings) -> Iterator[Row]:
    """What `compared` gives."""
    for ladder in found.ladders:
        for row in [*ladder.measures, *ladder.outcomes]:
            quantity = row.measure if isinstance(row, Moved) else row.outcome
            there = earlier.changes[ladder.name, quantity.key]
            here = row.along.changes
            yield Row(
                ladder.name,
                quantity,
                statistics.estimate(there),
                row.along.change,
                statistics.difference(here, there),
                earlier.told[ladder.name, quantity.key],
                row.verdict if isinstance(row, Followed) else row.words,
            )


def counted(rows: list[Row]) -> dict[str, int]:
    """{what became of a verdict: of how many outcomes}."""
    keys = [outcome.key for outcome in OUTCOMES]
    verdicts = [row.verdict for row in rows if row.quantity.key in keys]
    return {word: verdicts.count(word) for word in (REPEATS, DIFFERS, IN_ONE, IN_NEITHER)}
