"""The rules of a study as make reads them. Needs Python's standard library alone.

`$(run)`, `$(together)` and `$(on)`, who runs a command and where, are in common/machine.mk.
"""

import os
import shlex
import sys
from collections.abc import Iterator
from importlib.util import find_spec

from common.making import plan
from common.making.study import Study


def lines(
    study: Study, made: list, goals: list[str], flags: str, steps: list[plan.Step], taken: bool
) -> Iterator[str]:
    """The text that make reads, started with `flags`, and about to take `steps`.

    `made`: all rules (graph.Rule); `taken`: whether this make takes the study's folder.
    """
    yield f"# The rules of {study.folder}, which common/graph.py wrote for make."
    if not any(word.startswith("-j") for word in flags.split()):
        yield f"MAKEFLAGS += -j{plan.jobs(study.words)}"
    if taken:
        yield f"export MAKE_PROCESS := {os.getppid()}"
    targets = " ".join(rule.target for rule in made if rule.target != "report")
    yield "# Files are written whole or not at all: none is make's to delete."
    yield f".PRECIOUS: {targets}\n"
    # Changed flags lie in flags/new; after the rehearsal they are moved to their place, and what
    # they are of is made. Flags that are refused change nothing.
    rehearsals = {rule.stage: rule.rehearsal for rule in made}
    for stage in study.flags:
        if plan.flags_changed(study.flags_file(stage), study.flags[stage]):
            new, before = study.at("flags/new", stage), rehearsals.get(stage, "")
            yield f"{study.flags_file(stage)}: FORCE | {before}\n\t@mv {new} $@\n"
    coming = {step.rule.target: step for step in steps}
    shared = {}
    for name, some in together(study, steps):
        yield text_of_several(study, name, some)
        shared |= {step.rule.target: name for step in some}
    for rule in made:
        if rule.target in shared:
            yield f"{rule.target}: {shared[rule.target]}\n\t@test -e $@\n"
        else:
            yield text(study, coming.get(rule.target) or plan.Step(rule, ""))
    page = study.at("report/index.html")
    # A target with a recipe is never up to date for make -q.
    yield f"all: {page}" + ("" if "q" in letters(flags) else f"\n\t@echo 'report: {page}'")
    yield f"tune: {study.at('tune/table.txt')}\n\t@cat $<"
    if goals == ["plan"]:
        yield from saying("plan:", plan.told(study, steps))
        yield f"\t@{power(study)}"
    yield from saying("check: | $(ready)", plan.there(study, steps))
    yield f"\t@$(on) -m common.check {study.folder}"


def power(study: Study) -> str:
    """The command that says how small an effect the study finds; where the Python that plans lacks
    what the report needs, a line that says when it is said.
    """
    if not all(map(find_spec, ("h5py", "pandas", "scipy"))):
        return "echo '  how small an effect it finds is said after make setup'"
    longest = max((len(rungs) for rungs in study.ladders.values()), default=0)
    words = ["--results", study.at("report/results.json"), "--seeds", str(len(study.seeds))]
    words += ["--runs", study.words["RUNS"], "--rungs", str(longest)]
    words += ["--ladders", str(len(study.ladders)), "--effect", str(study.effect)]
    command = [sys.executable, "-m", "eval.report.power", *words]
    return shlex.join(command).replace("$", "$$")


def saying(target: str, lines: Iterator[str]) -> Iterator[str]:
    """Yields the rule of a target that prints `lines`."""
    yield target
    for line in lines:
        yield f"\t@echo {shlex.quote(line)}".replace("$", "$$")


def text(study: Study, step: plan.Step) -> str:
    """One rule as make reads it. What comes after | is made first, and its date counts for nothing:
    a rehearsal, where it is needed, and what is newer but holds what the target was made from.
    """
    rule, command = step.rule, step.rule.command
    if isinstance(command, list):
        about = shlex.join([study.folder, rule.stage, rule.target, rule.what])
        command = f"$({'show' if rule.shown else 'run'}) {about} $(on) {arguments(study, rule)}"
    dated, before = needs_of(study, step)
    return f"{rule.target}: {' '.join(dated)} | {' '.join(before).strip()}\n\t{command}\n"


def needs_of(study: Study, step: plan.Step) -> tuple[list[str], list[str]]:
    """(what a rule needs and is dated by, what is made before it and is not)."""
    rule = step.rule
    needs = [*rule.needs, *([study.flags_file(rule.stage)] if rule.stage else [])]
    dated = [need for need in needs if need not in step.same]
    dated += ["FORCE"] if step.unlike_dates else []
    return dated, [*step.same, "$(ready)", *([rule.rehearsal] if step.reason else [])]


def arguments(study: Study, rule) -> str:
    """What follows Python in the command of a rule."""
    flags = "" if rule.listed else study.flags[rule.stage]
    return f"{shlex.join(rule.command)} {flags}".strip().replace("$", "$$")


def together(study: Study, steps: list[plan.Step]) -> Iterator[tuple[str, list[plan.Step]]]:
    """(a name for make, steps of one stage that share a process): as many as TOGETHER says, and no
    more than leave each job some.
    """
    if study.words["GPUS"] or study.words["LAUNCH"]:
        return
    stages = {}
    for step in steps:
        rule = step.rule
        if step.reason and rule.what and not (rule.listed or rule.same_run):
            stages.setdefault(rule.stage, []).append(step)
    for stage, mine in stages.items():
        share = len(mine) // plan.jobs(study.words)
        most = max(1, min(share, study.words.number("TOGETHER")))
        for first in range(0, len(mine), most):
            if len(some := mine[first : first + most]) > 1:
                yield f"together-{stage}-{first}", some


def text_of_several(study: Study, name: str, some: list[plan.Step]) -> str:
    """The rule of steps that share a process, as make reads it; the files follow from it."""
    dated, before, recipes = [], [], []
    for step in some:
        for together, own in zip((dated, before), needs_of(study, step)):
            together += [need for need in own if need not in together]
        words_of_it = arguments(study, step.rule)
        number = 1 + len(shlex.split(words_of_it))
        about = shlex.join([str(number), step.rule.target, step.rule.what])
        recipes.append(f"{about} $(interpreter) {words_of_it}")
    about = shlex.join([study.folder, some[0].rule.stage])
    return (
        f".PHONY: {name}\n{name}: {' '.join(dated)} | {' '.join(before)}\n"
        f"\t$(together) {about} {' '.join(recipes)}\n"
    )


def letters(flags: str) -> str:
    """The flags of make that are one letter: "kn" of the MAKEFLAGS "kn -j2 --no-builtin-rules"."""
    return "" if flags.startswith("-") else flags.split(" ")[0]
