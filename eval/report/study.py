"""A study as the report sees it: its results, the table of their values, and what all sections ask.

The report reads nothing but the files it is given: titles, units and sources are their attributes.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

import numpy as np

from common import files
from common.measuring import summary
from eval.report import (
    agreements,
    claims,
    ladders,
    power,
    reading,
    reliability,
    repetition,
    styles,
    verdicts,
)
from eval.report.cells import least_to_most
from eval.report.fixed_in_advance import LEAST_DISTANCE, OUTCOMES, Measure, Outcome
from eval.report.page import anchors
from eval.report.reading import Finetuning
from eval.report.results import SPLITS, Result, grouped
from eval.report.table import MEASURED, Values

QUESTION = "Do more robust minima make better starting points for finetuning?"
PUBLISHED = Path(__file__).with_name("paper_curves.json")
SHOWN, NAMED = 30, 6  # names in a note, settings in a caption
WORDNET = re.compile(r"n\d{8}")  # a class of ImageNet
# Flags that differ between files that are compared.
WHERE = ("seed", "minimum", "minima", "out", "run", "device")


class Study:
    """What the sections of the page are written from."""

    def __init__(
        self,
        results: list[Result],
        tuned: list[Result],
        problems: list[str],
        profile: str = "unnamed",
        packs: str = "data not named",
        reference: dict | None = None,
        rungs: Mapping[str, list[str]] | None = None,
        said: Sequence[str] = (),
        classes: Sequence[str] = (),
        stands_for: Mapping[str, str] | None = None,
        outcomes: Sequence[Outcome] = OUTCOMES,
        earlier: repetition.Earlier | None = None,
    ):
        self.results, self.tuned, self.problems = results, tuned, problems
        self.profile, self.packs = profile, packs
        self.reference = reference or {}  # curves of the original report, to draw behind ours
        self.ladders = dict(rungs or {})  # {name: [the setting of each rung]}
        self.said = list(said)  # what whoever made the study wants a reader to know
        self.classes = list(classes)  # of pretraining, where they are known
        self.stands_for = stands_for  # {setting: the published one that it is compared with}
        self.earlier = earlier  # the same study on other images
        self.outcomes = tuple(outcomes)  # of finetuning, with the margins of this study
        self.values: Values = reading.values(results)
        self.minima = self.values.minima()

    def of_kind(self, kind: str) -> list[Result]:
        """The results of one kind."""
        return [result for result in self.results if result.kind == kind]

    @cached_property
    def training(self) -> list[Result]:
        return self.of_kind("training")

    @cached_property
    def passports(self) -> list[Result]:
        return self.of_kind("passport")

    def compared(self, comparison: str) -> list[Result]:
        """The results of one comparison, "distance" or "line"."""
        return [
            result
            for result in self.of_kind("comparison")
            if result.attrs["comparison"] == comparison
        ]

    @cached_property
    def finetunings(self) -> list[Finetuning]:
        """Finetuning by task and mode."""
        return reading.finetunings(self.results)

    @cached_property
    def asked(self) -> Finetuning | None:
        """The finetuning that the answer is about: the original report's, or the first there is."""
        full = [finetuning for finetuning in self.finetunings if finetuning.mode == "full"]
        return next(iter([*full, *self.finetunings]), None)

    @cached_property
    def groups(self) -> dict[str, dict]:
        """{group of the passports: its attributes}, but for clean images."""
        return {
            name: attrs
            for result in self.passports
            for name, attrs in result.groups.items()
            if attrs["measurement"] != "clean"
        }

    @cached_property
    def measured(self) -> dict[str, list[str]]:
        """{measurement: its groups}."""
        return grouped(self.groups, lambda name: self.groups[name]["measurement"])

    @cached_property
    def members(self) -> dict[str, list[str]]:
        """{setting: its minima}."""
        return {
            setting: list(frame["minimum"])
            for setting, frame in self.minima.groupby("setting", sort=False)
        }

    @cached_property
    def each(self) -> dict[str, list[str]]:
        """{minimum: itself}."""
        return {minimum: [minimum] for minimum in self.minima["minimum"]}

    @cached_property
    def interval(self) -> str:
        """What the interval of a measurement is; "" where nothing was measured."""
        return next((attrs["interval"] for attrs in self.groups.values()), "")

    @cached_property
    def style(self) -> dict[str, styles.Style]:
        """{setting: its colour and marker}, the same on the whole page."""
        return styles.shades(dict(zip(self.minima["setting"], self.minima["method"])))

    @cached_property
    def links(self) -> dict[str, str]:
        """{minimum or setting: where on the page its files stand}."""
        return anchors({"minimum": self.each, "setting": self.members})

    def mean_by_setting(self, values: Values) -> dict[str, float]:
        """{setting: mean over its minima} of one quantity."""
        return values.frame.groupby("setting", sort=False)["value"].mean().to_dict()

    def measured_by(self, measures: Sequence[Measure]) -> list[str]:
        """The groups of passports from which some measures are read."""
        sources = {measure.fields["source"] for measure in measures}
        return [group for name in self.measured if name in sources for group in self.measured[name]]

    @cached_property
    def tests(self) -> list[dict]:
        """The verdicts on the pairs that were fixed in advance; none where there is no outcome."""
        if not self.asked or not self.passports:
            return []
        return verdicts.family(self.values, self.asked, self.halves)

    @cached_property
    def halves(self) -> Values:
        """What verdicts rest on, from halves of the images and of the random draws."""
        return reliability.values(self.results)

    @cached_property
    def found(self) -> agreements.Findings | None:
        """What the ladders show; None where there is none."""
        return self.found_in(self.asked) if self.ladders else None

    @cached_property
    def repeated(self) -> list[repetition.Row]:
        """What the earlier study and this one found; nothing without an earlier one."""
        if not self.earlier or not self.found:
            return []
        return repetition.compared(self.earlier, self.found, self.images)

    @property
    def images(self) -> list[str]:
        """The fingerprints of the packs of pretraining."""
        return sorted({result.attrs["data"] for result in self.training if "data" in result.attrs})

    @cached_property
    def found_beside(self) -> dict[str, agreements.Findings]:
        """{finetuning: what the ladders show in its outcomes}, but for the one of the answer."""
        others = [each for each in self.finetunings if each != self.asked]
        return {each.label: self.found_in(each) for each in others} if self.ladders else {}

    def found_in(self, finetuning: Finetuning | None) -> agreements.Findings:
        """What the ladders show in the outcomes of one finetuning."""
        return agreements.findings(
            self.values, self.ladders, finetuning, self.halves, self.outcomes
        )

    @property
    def why_no_claims(self) -> str:
        """Why the original report's claims are not shown; "" where they are."""
        shown = "its claims are shown where a study is on ImageNet's images"
        if not self.reference:
            return f"Not shown: {shown}, as in the profiles small and paper (REPORT=--reference …)."
        if not all(WORDNET.fullmatch(name) for name in self.classes):
            odd = next(name for name in self.classes if not WORDNET.fullmatch(name))
            return f"Not shown: {shown}, whose classes are named as n01440764 is; here is {odd}."
        return ""

    @cached_property
    def spread(self) -> dict[str, power.Spread]:
        """{outcome: how much it differs between minima of one setting}; {} without finetuning."""
        if not self.asked:
            return {}
        return power.measured(self.values, self.found.ladders if self.found else [], self.asked)

    @property
    def enough(self) -> str:
        """How small an effect so many seeds find, and what would find the margin, in a sentence."""
        first = self.spread.get(OUTCOMES[0].key)
        if not first:
            return ""
        climbed = self.found.ladders if self.found else []
        if climbed:
            seeds = max(len(row.along.seeds) for each in climbed for row in each.outcomes)
        else:
            seeds = self.minima["seed"].nunique()
        rungs = max((len(each.rungs) for each in climbed), default=0)
        return power.enough(
            power.Plan(rungs, len(climbed), seeds, first.runs), first, self.outcomes[0]
        )

    @cached_property
    def claims(self) -> list[dict]:
        """The original report's claims, tested."""
        published = json.loads(PUBLISHED.read_text())
        return claims.claims(
            self.values, self.results, self.tuned, published, self.asked, self.stands_for
        )

    @cached_property
    def notes(self) -> list[str]:
        """What to know before trusting a report on these files."""
        return [f"Left out: {problem}." for problem in self.problems] + [
            *self._of_other_weights(),
            *mixtures(self.results),
            *self._unfinished(),
            *self._short_of_target(),
            *self._no_other_minima(),
            *self._attacks_without_gradient(),
            *self._without_a_number(),
        ]

    @cached_property
    def of_other_weights(self) -> list[str]:
        """Files of one minimum that were made from different weights, in words, two and two."""
        known = [result for result in self.results if result.weights]
        found = []
        for minimum, (first, *others) in grouped(known, lambda result: result.minimum).items():
            found += [
                f"{first.path} and {other.path} (both of {minimum})"
                for other in others
                if other.weights != first.weights
            ]
        return found

    def as_json(self) -> str:
        """results.json, for machines; NaN and infinity, which JSON lacks, are null."""
        keys = "kind", "seed", "commit", "code", "device", "command"
        everything = {
            "question": QUESTION,
            "profile": self.profile,
            "data": self.packs,
            "classes": self.classes,
            "images": self.images,
            "notes": self.notes,
            "null": "not a number, or no bound",
            "alpha": verdicts.ALPHA,
            "said": self.said,
            "ladders": asdict(self.found) if self.found else None,
            "how ladders are judged": ladders.METHOD,
            "earlier": str(self.earlier.path) if self.earlier else None,
            "repetition": [asdict(row) | {"verdict": row.verdict} for row in self.repeated],
            "spread": {outcome: asdict(spread) for outcome, spread in self.spread.items()},
            "verdicts": self.tests,
            "how verdicts are reached": verdicts.METHOD,
            "claims": [] if self.why_no_claims else self.claims,
            "how claims are decided": self.why_no_claims or claims.METHOD,
            "files": [
                {"path": str(result.path), "minima": result.minima}
                | {"methods": result.methods, "settings_of_minima": result.settings_of_minima}
                | {key: result.attrs[key] for key in keys}
                for result in [*self.results, *self.tuned]
            ],
        }
        text = json.dumps(everything, default=lambda number: number.tolist())
        numbers = json.loads(text, parse_constant=lambda constant: None)
        return json.dumps(numbers, indent=1) + "\n"

    def _of_other_weights(self) -> Iterator[str]:
        """Files of one minimum that were made from different weights."""
        if found := self.of_other_weights:
            yield (
                f"Made from different weights of one minimum: {some(found, '; ')}. Make the older "
                "of each two again."
            )

    def _unfinished(self) -> Iterator[str]:
        """Files that some minima have and others lack."""
        measured = {result.minimum for result in self.passports if "clean" in result.groups}
        have = {"passport file": measured}
        for finetuning in self.finetunings:
            words = f" of {finetuning.label}" if len(self.finetunings) > 1 else ""
            have[f"finetune file{words}"] = {result.minimum for result in finetuning.results}
        if not self.finetunings:
            have["finetune file"] = set()
        lacking = [
            f"{minimum} has no {what}"
            for minimum in self.minima["minimum"]
            for what, minima in have.items()
            if minimum not in minima
        ]
        if lacking:
            yield f"The study is not finished: {some(lacking, '; ')}."

    @cached_property
    def fewer_seeds(self) -> str:
        """Settings that lack seeds which others have, in words; "" where there are none."""
        seeds, fewer = self.minima["seed"].unique(), []
        for setting, frame in self.minima.groupby("setting", sort=False):
            if missing := [str(seed) for seed in seeds if seed not in set(frame["seed"])]:
                fewer.append(f"{setting} has no seed {', '.join(missing)}")
        return some(fewer, "; ")

    def _short_of_target(self) -> Iterator[str]:
        """Minima whose train accuracy is below the target of pretraining."""
        reached = self.values.where(source="pretraining", name="epoch_at_target").by("minimum")
        if short := [minimum for minimum, epoch in reached.items() if epoch == np.inf]:
            yield (
                "Pretraining never reached its target of train accuracy while it ran: "
                f"{some(short, ', ')}."
            )
        target = self.training[0].attrs["target"] if self.training else 0
        accuracy = self.values.where(**MEASURED, source="clean", split="train", name="accuracy")
        if short := [minimum for minimum, v in accuracy.by("minimum").items() if v < target]:
            yield (
                f"As saved, these minima have less than {target:.0%} accuracy on the training "
                f"images measured: {some(short, ', ')}."
            )

    def _no_other_minima(self) -> Iterator[str]:
        """Averages that lie where their last iterate lies."""
        near = [
            f"{result.minimum} {moved:.1%}"
            for result in self.training
            if (moved := result.attrs.get("distance_from_last", np.inf)) < LEAST_DISTANCE
        ]
        if near:
            yield (
                "An average of weights that lies less than "
                f"{LEAST_DISTANCE:.0%} of its norm from the last weights that it averages is not "
                f"another minimum than they are: {some(near, ', ')}. A larger --swa-lr takes it "
                "farther."
            )

    def _attacks_without_gradient(self) -> Iterator[str]:
        """Attacks that leave images as they are, because the gradient is exactly 0 there."""
        shares = {
            f"{group} of {result.minimum}": max(
                result.data.get(f"{group}/{split}/without_gradient", [0])[0] for split in SPLITS
            )
            for result in self.passports
            for group in result.groups
        }
        small = summary.SMALL_SHARE
        found = [f"{what} {share:.0%}" for what, share in shares.items() if share > small]
        if found:
            yield (
                "The gradient of the loss is exactly 0 in float32, or not a number, at some "
                f"images, which an attack then leaves as they are: {some(found, '; ')}. Its "
                "accuracy there says nothing."
            )

    def _without_a_number(self) -> Iterator[str]:
        """What was measured and came to no number: of scalars, to no finite one."""
        found = [
            f"{group}/{path} of {result.minimum}"
            for result in self.passports
            for group in result.groups
            for path in summary.undefined(result.within(group))
            if not path.startswith("halves/")  # which are the report's own
        ]
        if found:
            yield (
                f"Measured, and no finite number: {some(found, '; ')}. Where one is asked for, "
                "there is a dash."
            )


def some(words: list[str], between: str) -> str:
    """All of a few words; of many the first, and how many more there are."""
    more = len(words) - SHOWN
    return between.join([*words[:SHOWN], f"{more} more"] if more > 0 else words)


def capitalized(text: str) -> str:
    """`text` with a capital letter first; FGSM stays as it is."""
    return text[:1].upper() + text[1:]


def mixtures(results: list[Result]) -> Iterator[str]:
    """Files of different code versions, or made with different settings."""
    codes, settings = {}, {}
    for result in results:
        groups = result.groups or {result.stage: result.attrs}
        for stage, attrs in groups.items():
            codes.setdefault(stage, set()).add(attrs["code"])
        given = {name: value for name, value in result.settings.items() if name not in WHERE}
        stage = f"training {result.label}" if result.kind == "training" else result.stage
        # A passport's two volumes, and finetuning on two tasks, differ by design.
        key = stage, result.task, str(given.get("names"))
        settings.setdefault(key, set()).add(json.dumps(given, sort_keys=True))
    if mixed := [stage for stage, versions in codes.items() if len(versions) > 1]:
        yield f"Files of different code versions are compared here: {', '.join(mixed)}."
    if mixed := dict.fromkeys(stage for (stage, *_), given in settings.items() if len(given) > 1):
        yield f"Files made with different settings are compared here: {', '.join(mixed)}."


def over(results: list[Result]) -> str:
    """What a line and its band, or a number and its ±, mean."""
    minima = dict.fromkeys((result.minimum, result.label) for result in results)
    counts = Counter(label for _, label in minima)
    words = ", ".join(f"{count} {label}" for label, count in counts.items())
    if len(counts) > NAMED:
        words = f"{least_to_most(counts.values())} of each of {len(counts)} settings"
    return f"mean ± standard deviation over seeds, n = {words}"


def classes_of(path: Path) -> list[str]:
    """The names of the classes of a pack."""
    with files.read_pack(path, check=False) as file:
        return json.loads(file.attrs["classes"])


def fingerprint(path: Path) -> str:
    """sha256 of the images of a pack."""
    with files.read_pack(path, check=False) as file:
        return str(file.attrs["fingerprint"])


def describe_pack(path: Path) -> str:
    """A pack in words; whoever used it has checked its sum."""
    with files.read_pack(path, check=False) as file:
        train, val, test = np.bincount(file["split"][()], minlength=3)
        name = Path(str(file.attrs.get("source", path))).name
        classes, size = len(json.loads(file.attrs["classes"])), file.attrs["image_size"]
        twice = file.attrs.get("duplicates", 0)
    also = f", {twice:,} of which are also in train or val" if twice else ""
    return (
        f"{name} ({classes} classes at {size} px; {train:,} train, {val:,} val, {test:,} test "
        f"images{also})"
    )
