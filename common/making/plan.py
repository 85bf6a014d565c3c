"""What make will make, why, and how long that will take: `make plan`.

Needs Python's standard library alone.
"""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from common.making import journal


@dataclass
class Step:
    """A rule that make comes to on its way to a goal."""

    rule: object  # a graph.Rule
    reason: str  # why its target is made: "missing", or what is newer than it; "" where it is not


def flags_changed(path: str, flags: str) -> bool:
    """Whether the flags that are kept in a file are others."""
    try:
        return Path(path).read_text() != flags
    except OSError:
        return True


def steps(study, rules, goals: list[str], everything: bool = False) -> list[Step]:
    """What make comes to for `goals`, in order, and what of it it will make, by make's own rules:
    what is missing, older than what it needs, or needs what is made. `everything` is make -B.
    """
    walk = _Walk(study, {rule.target: rule for rule in rules}, everything)
    for goal in goals:
        walk.visit(goal)
    return [Step(walk.rules[path], reason) for path, reason in walk.reasons.items()]


class _Walk:
    """Goes through the graph as make does, from a goal to what it needs, each file once."""

    def __init__(self, study, rules: dict, everything: bool):
        self.study, self.rules, self.everything = study, rules, everything
        self.times = {}  # of files
        self.reasons = {}  # {target: why it is made, or ""}, in the order of making
        self.changed = {
            stage
            for stage, flags in study.flags.items()
            if flags_changed(study.flags_file(stage), flags)
        }

    def visit(self, path: str) -> str:
        """Why `path` will be made, or ""; what it needs comes first."""
        rule = self.rules.get(path)
        if not rule or path in self.reasons:
            return self.reasons.get(path, "")
        needs = [*rule.needs, *([self.study.flags_file(rule.stage)] if rule.stage else [])]
        made = [need for need in needs if self.visit(need)]
        reason = self.reason(rule, needs, made)
        if reason and rule.rehearsal:
            self.visit(rule.rehearsal)
        self.reasons[path] = reason
        return reason

    def reason(self, rule, needs: list[str], made: list[str]) -> str:
        """Why a target is made, given those of its `needs` that are `made`."""
        written = self.written(rule.target)
        if not written:
            return "missing"
        if self.everything:
            return "make -B makes everything"
        if rule.stage in self.changed:
            return f"the flags of {rule.stage} changed"
        if made:
            cause = self.reasons[made[0]]
            return f"{made[0]} is missing" if cause == "missing" else cause
        newer = [need for need in needs if self.written(need) > written]
        return f"{newer[0]} is newer" if newer else ""

    def written(self, path: str) -> int:
        """When a file was last written, in nanoseconds since 1970; 0 if it is missing."""
        if path not in self.times:
            self.times[path] = 0
            with suppress(OSError):
                self.times[path] = os.stat(path).st_mtime_ns
        return self.times[path]


def count(some_steps: list[Step]) -> list[tuple[str, str, int]]:
    """[(kind, stage, number of recipes)] of what will be made."""
    made = [step.rule for step in some_steps if step.reason and step.rule.what]
    recipes = Counter((kind_of(rule), rule.stage) for rule in made)
    return [(*key, number) for key, number in recipes.items()]


def kind_of(rule) -> str:
    """What a rule does, in a word; "" where that is not worth saying."""
    return rule.what.partition(" ")[0]


def jobs(words) -> int:
    """How many recipes run at once: JOBS, or one for each of GPUS, or as the cores allow."""
    for name in "JOBS", "GPUS":
        if words[name]:
            return words.number(name)
    return max(1, cores() // words.number("THREADS"))


def cores() -> int:
    """The CPU cores that this process may use, by its affinity and its container's limit."""
    allowed = os.cpu_count() or 1
    with suppress(AttributeError):  # Linux has it
        allowed = len(os.sched_getaffinity(0))
    with suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        allowed = min(allowed, max(1, int(quota) // int(period)))  # ValueError: "max", no limit
    return allowed


def told(study, some_steps: list[Step]) -> Iterator[str]:
    """Yields lines: the minima, the files to make, how long that takes, and why files that are
    there will be made again.
    """
    number = len(study.minima)
    yield f"{study.folder}: {number} {'minimum' if number == 1 else 'minima'}"
    beside = dict.fromkeys(f"{minimum.setting}/{minimum.beside}" for minimum in study.beside)
    yield f"  of {' '.join([*study.trained_settings, *beside])}; seeds {study.words['SEEDS']}"
    yield f"  {'':12}{'to make':>12}{'each':>10}"
    history = journal.Journal(study.folder)
    expected = profile_seconds(study.words)
    seconds = history.seconds(history.events(), expected)
    to_make = Counter({(name, stage): number for name, stage, number in count(some_steps)})
    kinds = Counter(kind_of(step.rule) for step in some_steps if step.rule.what)
    for name, number in kinds.items():
        mine = {key: value for key, value in to_make.items() if key[0] == name}
        # The mean of a recipe: all of them one after the other, divided by their number.
        whole = journal.remaining(mine, seconds, 1)
        each = whole.seconds / max(sum(mine.values()), 1)
        known = journal.in_words(each) if mine and not whole.unknown else ""
        yield f"  {name:12}{f'{sum(mine.values())} of {number}':>12}{known:>10}".rstrip()
    at_once = jobs(study.words)
    yield f"  {at_once} at once on {cores()} CPU cores: {duration(to_make, seconds, at_once)}"
    for line in made_again(some_steps):
        yield f"  {line}"


def made_again(some_steps: list[Step]) -> Iterator[str]:
    """Yields a line for each reason for which files that are there will be made again."""
    there = [step for step in some_steps if step.reason not in ("", "missing")]
    reasons = Counter(step.reason for step in there if kind_of(step.rule) != "check")
    for reason, number in reasons.most_common():
        files = "1 file" if number == 1 else f"{number} files"
        yield f"made again, although there: {files}, because {reason}"


def duration(to_make: Counter, seconds: dict, at_once: int) -> str:
    """How long it will take, in words."""
    if not to_make:
        return "nothing to make"
    whole = journal.remaining(to_make, seconds, at_once)
    if whole.unknown:
        return "how long is not known before a recipe of each kind has finished here"
    return f"about {journal.in_words(whole.seconds)}"


def profile_seconds(words) -> dict[str, float]:
    """{kind: seconds of a recipe}, as the profile says (SECONDS): with its own numbers, on another
    machine. They count until one has finished here.
    """
    pairs = (word.split(":") for word in words["SECONDS"].split())
    return {name: float(number) for name, number in pairs}
