"""What make will make, why, and how long that will take: `make plan`.

Needs Python's standard library alone.
"""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from common import settings
from common.making import contents, journal


@dataclass
class Step:
    """A rule that make comes to on its way to a goal."""

    rule: object  # a graph.Rule
    reason: str  # why its target is made: "missing", or what is newer than it; "" where it is not
    unlike_dates: bool = False  # what it was made from changed, though its date did not
    same: tuple[str, ...] = ()  # what is newer, and holds what it was made from all the same


def flags_changed(path: str, flags: str) -> bool:
    """Whether the flags that are kept in a file are others."""
    try:
        return Path(path).read_text() != flags
    except OSError:
        return True


def steps(study, rules, goals: list[str], everything: bool = False) -> list[Step]:
    """What make comes to for `goals`, in order, and what of it it will make: what is missing, needs
    what is made, or was made from other contents; where the journal does not say from which, what
    is older than what it needs. `everything` is make -B.
    """
    walk = _Walk(study, {rule.target: rule for rule in rules}, everything)
    for goal in goals:
        walk.visit(goal)
    return list(walk.steps.values())


class _Walk:
    """Goes through the graph as make does, from a goal to what it needs, each file once."""

    def __init__(self, study, rules: dict, everything: bool):
        self.study, self.rules, self.everything = study, rules, everything
        self.record = contents.Record(journal.Journal(study.folder))
        self.times = {}  # of files
        self.steps: dict[str, Step] = {}  # by target, in the order of making
        self.new_flags = set()  # files of flags that will be written anew
        for stage, flags in study.flags.items():
            path = study.flags_file(stage)
            if flags_changed(path, flags):
                self.new_flags.add(path)
                self.record.digests[path] = contents.of_bytes(flags.encode())

    def visit(self, path: str) -> str:
        """Why `path` will be made, or ""; what it needs comes first."""
        if path not in self.rules:
            return ""
        if path not in self.steps:
            rule = self.rules[path]
            flags = [self.study.flags_file(rule.stage)] if rule.stage else []
            needs = [*rule.needs, *flags]
            made = [need for need in needs if self.visit(need)]
            step = self.step(rule, needs, made)
            if step.reason or self.new_flags.intersection(flags):
                self.visit(rule.rehearsal)
            self.steps[path] = step
        return self.steps[path].reason

    def step(self, rule, needs: list[str], made: list[str]) -> Step:
        """What becomes of a target, given those of its `needs` that are `made`."""
        if not self.written(rule.target):
            return Step(rule, "missing")
        if self.everything:
            return Step(rule, "make -B makes everything")
        if made:
            cause = self.steps[made[0]].reason
            return Step(rule, f"{made[0]} is missing" if cause == "missing" else cause)
        if rule.same_run:
            return Step(rule, "")
        return self.compared(rule, needs)

    def compared(self, rule, needs: list[str]) -> Step:
        """What becomes of a target that is there, beside what it needs, which is there too."""
        written = self.written(rule.target)
        newer = {need for need in needs if self.written(need) > written} | self.new_flags
        record = self.record.of(rule.target)
        known = {need: self.record.same(need, record) for need in needs} if record else {}
        for need in needs:
            flags = need in self.new_flags and f"the flags of {rule.stage} changed"
            if known.get(need) is False:
                return Step(rule, flags or f"{need} changed", unlike_dates=need not in newer)
            if need in newer and not known.get(need):
                return Step(rule, flags or f"{need} is newer")
        newer |= {need for need in needs if self.touched(need)}
        return Step(
            rule, "", same=tuple(need for need in needs if known.get(need) and need in newer)
        )

    def touched(self, path: str) -> bool:
        """Whether make will touch a file, which is older than the weights of the same run."""
        rule = self.rules.get(path)
        return bool(rule and rule.same_run) and any(
            self.written(need) > self.written(path) for need in rule.needs
        )

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
    methods = dict.fromkeys(map(settings.method, study.trained_settings))
    own = {name: study.words[f"SEEDS_{name}"] for name in methods}
    seeds = [study.words["SEEDS"], *(f"of {name} {own[name]}" for name in own if own[name])]
    yield f"  of {' '.join([*study.trained_settings, *beside])}; seeds {', '.join(seeds)}"
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
    if kept := sum(bool(step.same) for step in some_steps):
        files = "1 file" if kept == 1 else f"{kept} files"
        yield f"  kept, although older by date: {files}, made from the same contents"


def there(study, some_steps: list[Step]) -> Iterator[str]:
    """Yields a line where files that carry a checksum are missing: how many, and the first."""
    paths = [step.rule.target for step in some_steps]
    files = [path for path in paths if path.endswith((".h5", ".safetensors"))]
    missing = [path for path in files if not os.path.exists(path)]
    if os.path.isdir(study.folder) and missing:
        first = ", ".join(missing[:3])
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        yield (
            f"{study.folder}: {len(files) - len(missing)} of {len(files)} files of this study are "
            f"there; missing: {first}{more}"
        )


def made_again(some_steps: list[Step]) -> Iterator[str]:
    """Yields a line for each reason for which files that are there will be made again."""
    there = [step for step in some_steps if step.reason not in ("", "missing")]
    # Neither what its own run leaves beside it, nor the check of all flags.
    reasons = Counter(step.reason for step in there if kind_of(step.rule) not in ("", "check"))
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
