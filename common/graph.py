"""The graph of a study: one plain make rule a file, written from the words of the Makefile.

    python -m common.graph MAKEFLAGS "GOALS" "TYPED NAMES" NAME=value …

make runs this when it starts and includes the makefile whose path this prints: graph.mk in the
study's folder, or under `make -n` and `make -q`, which leave no trace, a temporary one. A mistake
is one line and status 1. Needs Python's standard library alone.

A function yields the rules of one stage; `rules` names the stages in their order. How make reads
them is common/making/makefile.py's.
"""

import os
import shlex
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from common import settings
from common.making import makefile, place, plan, words
from common.making.study import MORE, Minimum, Study

MAKEFILES = ["Makefile", "common/machine.mk"]
# Targets of the Makefile that are no files; those that make nothing; those that go alone.
PHONY = (
    "all",
    "report",
    "tune",
    "plan",
    "check",
    "clean",
    "help",
    "setup",
    "lint",
    "quick",
    "test",
)
PHONY += ("test-full", "bench", "container")
LOOKING = ("plan", "check", "help")
ALONE = {"plan", "clean"}
SCRIPTS = ("train.", "eval.", "finetune.")
PACKING = ("prepare", "sources", "folders", "pictures")  # of common/images
PARTIAL = "flags/report-partial"  # the arguments of a report on what is there
NEEDED = ("torch", "torchvision", "numpy", "h5py", "safetensors", "sklearn")
TEMPORARY = ".temporary.mk"  # of a makefile that make removes as soon as it has read it


@dataclass
class Rule:
    """`target` is made from `needs` by a command, whose flags are kept in flags/`stage`."""

    target: str
    needs: list[str]
    command: list[str] | str  # of Python: ["-m", …]; or, as text, of the shell
    stage: str = ""
    what: str = ""  # the command does, for who watches; the first word is the kind of stage
    setting: str = ""  # of the command: a method's or a mode's
    rehearsal: str = ""  # comes before it, where it is made; being newer remakes nothing
    listed: bool = False  # the command reads its flags from the flags file: they are many
    shown: bool = False  # what it prints is for people
    same_run: bool = False  # the run that makes what it needs writes it; the command touches it


def packs(study: Study) -> Iterator[Rule]:
    """The packs of images: for pretraining, and one for each task."""
    sources = {"pretrain": "PRETRAIN_DATA"} | {task: f"TASK_{task}" for task in study.tasks}
    for name, variable in sources.items():
        target = study.at("data", f"{name}.h5")
        stage = f"prepare-{name}"
        study.set_flags(stage, source_of(study, name, variable))
        command = ["-m", "common.images.prepare", "--out", target]
        needs = [f"common/images/{part}.py" for part in PACKING]
        yield Rule(target, needs, command, stage, f"prepare {name}")


def source_of(study: Study, name: str, variable: str) -> list[str]:
    """The flags that say what a pack is made of.

    A folder of images that is not named again stays the one that the pack was made from.
    """
    flags = study.words.flags(variable)
    folder = study.words[f"FOLDER_{name}"]  # the variable in which people name it
    kept = Path(study.flags_file(f"prepare-{name}"))
    if not flags:
        raise SystemExit(f"{variable} is empty; it says what data/{name}.h5 is made of")
    if folder and not study.words[folder] and kept.exists():
        before = shlex.split(kept.read_text())[:1]
        if ":" not in "".join(before):  # glyphs:letters, of another profile's study
            return [*before, *flags[1:]]
    if not flags[0]:  # '', a folder that nobody named
        raise SystemExit(
            f"PROFILE={study.words['PROFILE']} needs {folder or variable}=folder with "
            "train/CLASS/*.jpg and val/CLASS/*.jpg"
        )
    return flags


def pretraining(study: Study) -> Iterator[Rule]:
    """The minima, each with the curves of its training, and what some leave beside them."""
    for minimum in study.trained:
        method = settings.method(minimum.setting)
        study.set_flags(f"train-{method}", training_flags(study, method))
        what = f"pretrain {minimum.name}"
        yield from trained(study, minimum, study.at(minimum.name), f"train-{method}", what)
    for minimum in study.beside:
        weights = study.at(f"{minimum.setting}-{minimum.seed}", "weights.safetensors")
        word = f"{settings.method(minimum.setting)}/{minimum.beside}"
        hint = f"if it leaves none, take {word} out of CONTROLS; else "
        yield same_run(study.at(minimum.name, "weights.safetensors"), weights, hint)


def training_flags(study: Study, method: str) -> list[str]:
    """The flags of a method: the profile's, for all of its settings."""
    given = study.words.flags("TRAIN", f"TRAIN_{method}")
    return ["--epochs", study.words["EPOCHS"], *given, *study.deterministic]


def trained(study: Study, minimum: Minimum, folder: str, stage: str, what: str) -> Iterator[Rule]:
    """The pretraining of one minimum, and its curves."""
    method, pack = settings.method(minimum.setting), study.at("data/pretrain.h5")
    command = ["-m", f"train.{method}", "--data", pack, "--out", folder]
    command += ["--seed", str(minimum.seed), "--setting", minimum.setting]
    weights, needs = f"{folder}/weights.safetensors", [f"train/{method}.py", pack]
    yield Rule(weights, needs, command, stage, what, minimum.setting)
    yield same_run(f"{folder}/training.h5", weights)


def same_run(target: str, weights: str, hint: str = "") -> Rule:
    """training.h5, or another minimum, which the run that made the weights wrote before them. It is
    touched, or make would take it for older than the weights, and so for out of date, for ever.
    """
    missing = (
        f"{target}: missing, although {weights} is there; {hint}move that away and run make again"
    )
    command = (
        f"@rm -f $(@D)/resume.h5; touch -c $@; test -e $@ || {{ echo '{missing}' >&2; exit 1; }}"
    )
    return Rule(target, [weights], command, same_run=True)


def measuring(study: Study) -> Iterator[Rule]:
    """A passport a minimum; its second volume holds what takes longer."""
    pack = study.at("data/pretrain.h5")
    for volume, names in study.volumes.items():
        given = [flag for name in names for flag in (*study.words.flags(f"MEASURE_{name}"), name)]
        study.set_flags(volume, study.words.flags("MEASURE") + study.deterministic + given)
        scripts = ["eval/battery.py", *(f"eval/{name}.py" for name in names)]
        for minimum in study.minima:
            folder = study.at(minimum.name)
            target = f"{folder}/{volume}.h5"
            command = ["-m", "eval.battery", "--data", pack, "--minimum", folder, "--out", target]
            needs = [*scripts, f"{folder}/weights.safetensors", pack]
            more = " (more)" if volume == MORE else ""
            yield Rule(target, needs, command, volume, f"measure {minimum.name}{more}")


def comparing(study: Study) -> Iterator[Rule]:
    """A file a pair of minima and comparison."""
    pack = study.at("data/pretrain.h5")
    for comparison in study.comparisons:
        given = study.words.flags("COMPARE", f"COMPARE_{comparison}")
        stage = f"compare-{comparison}"
        study.set_flags(stage, given + study.deterministic)
        for a, b in study.pairs:
            folders, pair = [study.at(a.name), study.at(b.name)], f"{a.name}--{b.name}"
            target = study.at(pair, f"{comparison}.h5")
            weights = [f"{folder}/weights.safetensors" for folder in folders]
            needs = [f"eval/{comparison}.py", *weights, pack]
            command = ["-m", f"eval.{comparison}", "--data", pack, "--minima", *folders]
            yield Rule(
                target, needs, [*command, "--out", target], stage, f"compare {pair} ({comparison})"
            )


def finetuning(study: Study) -> Iterator[Rule]:
    """A file a minimum, task and mode, with all runs."""
    for mode in study.modes:
        for task in study.tasks:
            stage = f"finetune-{task}-{settings.method(mode)}"
            flags = finetuning_flags(study, task, mode)
            study.set_flags(stage, ["--runs", study.words["RUNS"], *flags])
            for minimum in study.minima:
                target = study.at(minimum.name, task, f"{mode}.h5")
                yield finetuned(study, minimum, task, mode, target, stage)


def finetuning_flags(study: Study, task: str, mode: str) -> list[str]:
    """The flags of a mode on a task, for all settings of the mode."""
    given = study.words.flags("FINETUNE", f"FINETUNE_{task}", f"FINETUNE_{settings.method(mode)}")
    return given + study.deterministic


def finetuned(
    study: Study, minimum: Minimum, task: str, mode: str, target: str, stage: str
) -> Rule:
    """The finetuning of one minimum."""
    script, pack, folder = settings.method(mode), study.at("data", f"{task}.h5"), minimum.name
    source = study.at("data/pretrain.h5")  # what is forgotten of it is measured
    needs = [f"finetune/{script}.py", study.at(folder, "weights.safetensors"), pack, source]
    command = ["-m", f"finetune.{script}", "--data", pack, "--source", source]
    command += ["--minimum", study.at(folder)]
    command += ["--out", target, "--setting", mode]
    what = f"{'tune' if stage.startswith('tune') else 'finetune'} {folder} on {task} ({mode})"
    return Rule(target, needs, command, stage, what, mode)


def tuning(study: Study) -> Iterator[Rule]:
    """Settings that `make tune` tries on val: seed 0, finetuning from the first minimum."""
    for setting in study.words.settings_of("TUNE_METHODS", "train"):
        method, minimum = settings.method(setting), Minimum(setting, 0)
        flags = training_flags(study, method) + study.words.flags("TUNE")
        study.set_flags(f"tune-{method}", flags)
        folder = study.at("tune", minimum.name)
        yield from trained(study, minimum, folder, f"tune-{method}", f"tune {setting}")
    for mode in study.words.settings_of("TUNE_MODES", "finetune") if study.tasks else []:
        stage = f"tune-finetune-{settings.method(mode)}"
        minimum, task = study.minima[0], study.tasks[0]
        flags = ["--runs", study.words["TUNE_RUNS"], *finetuning_flags(study, task, mode)]
        study.set_flags(stage, [*flags, "--measure-on", "val"])
        target = study.at("tune", minimum.name, task, f"{mode}.h5")
        yield finetuned(study, minimum, task, mode, target, stage)


def rehearsal(study: Study, name: str, made: list[Rule]) -> Rule:
    """Every command once, stopped where its work would begin: before any does its work, it is known
    whether all flags are understood, and whether two settings are one. Sets their `rehearsal`.
    """
    commands, scripts = {}, set()
    target, stage = study.at(f"flags/rehearsed-{name}"), f"rehearse-{name}"
    for rule in made:
        if isinstance(rule.command, list) and rule.command[1].startswith(SCRIPTS):
            rule.rehearsal = target
            flags = shlex.split(study.flags[rule.stage])
            command = shlex.join([*rule.command[1:], *flags])
            commands.setdefault((rule.stage, rule.setting), command)
            scripts.update(need for need in rule.needs if need.endswith(".py"))
    paired = ["--paired", " ".join(study.paired)] if study.comparisons else []
    study.set_flags(stage, [*paired, *commands.values()], a_line_each=True)
    command = ["-m", "common.making.rehearse", "--out", target, f"@{study.flags_file(stage)}"]
    what = "check the flags of every command"
    return Rule(target, sorted(scripts), command, stage, what, listed=True)


def report(study: Study, results: list[Rule], tuned: list[Rule]) -> Rule:
    """The page. What was tuned is shown as it is; a study does not tune again by itself."""
    flags, files = ["--profile", study.words["PROFILE"]], []
    for rule in hdf5(results):
        if rule.stage.startswith("prepare-"):
            flags += ["--pack", rule.target]
        elif rule.stage != MORE or study.words.switch("MORE"):
            files.append(rule.target)
    for rule in hdf5(tuned):
        if Path(rule.target).exists():
            flags += ["--tuned", rule.target]
    for name, rungs in study.ladders.items():
        flags += ["--ladder", f"{name}={','.join(rungs)}"]
    study.set_flags("report", [*flags, *study.words.flags("REPORT"), *files], a_line_each=True)
    patterns = ("*.py", "*.json", "sections/*.py", "templates/*")
    scripts = [str(path) for each in patterns for path in sorted(Path("eval/report").glob(each))]
    packs = [rule.target for rule in results if rule.stage.startswith("prepare-")]
    table = [path for path in [study.at("tune/table.txt")] if Path(path).exists()]
    command = ["-m", "eval.report", "--out", study.at("report"), f"@{study.flags_file('report')}"]
    page, needs = study.at("report/index.html"), [*scripts, *packs, *files, *table]
    return Rule(page, needs, command, "report", "report", listed=True, shown=True)


def hdf5(some_rules: list[Rule]) -> list[Rule]:
    """Those whose target is an HDF5 file."""
    return [rule for rule in some_rules if rule.target.endswith(".h5")]


def report_alone(study: Study) -> Rule:
    """`make report`: the page from the files as they are. With PARTIAL also where some are missing,
    in a folder of its own, and while a make is at work.
    """
    if study.words.switch("PARTIAL"):
        stage, flags, out = "", ["--partial", f"@{study.at(PARTIAL)}"], "report-partial"
    else:
        stage, flags, out = "report", [f"@{study.flags_file('report')}"], "report"
    command = ["-m", "eval.report", "--out", study.at(out), *flags]
    return Rule("report", [], command, stage, "report", listed=True, shown=True)


def tuning_table(study: Study, tuned: list[Rule]) -> Rule:
    """The table of all that was tuned."""
    files = [rule.target for rule in hdf5(tuned)]
    command = f"@$(on) -m eval.tuning {shlex.join(files)} > $@.part && mv $@.part $@"
    return Rule(study.at("tune/table.txt"), ["eval/tuning.py", *files], command)


def rules(study: Study) -> list[Rule]:
    """All rules of a study, in the order of its stages."""
    made = [*packs(study), *pretraining(study), *measuring(study), *comparing(study)]
    made += finetuning(study)
    tuned = list(tuning(study))
    page = report(study, made, tuned)
    checks = [rehearsal(study, "study", made), rehearsal(study, "tune", tuned)]
    return [*checks, *made, page, *tuned, tuning_table(study, tuned), report_alone(study)]


def targets_of(study: Study, made: list[Rule], goals: list[str]) -> list[str]:
    """The targets of rules that goals stand for."""
    page, table = study.at("report/index.html"), study.at("tune/table.txt")
    stand_for = {"all": page, "plan": page, "check": page, "tune": table}
    stand_for |= {study.flags_file(rule.stage): rule.rehearsal for rule in made if rule.rehearsal}
    return [stand_for.get(goal, os.path.normpath(goal)) for goal in goals]


def check_goals(goals: list[str], made: list[Rule], study: Study):
    """SystemExit where a goal is neither a target of the Makefile nor a file of the study."""
    known = {*PHONY, *(rule.target for rule in made), *map(study.flags_file, study.flags)}
    for goal in goals:
        if os.path.normpath(goal) not in known:
            hint = words.nearest(os.path.normpath(goal), sorted(known))
            raise SystemExit(f"make {goal}: no such target{hint or '; make help lists them'}")
    for goal in ALONE.intersection(goals):
        if len(goals) > 1:
            raise SystemExit(f"make {' '.join(goals)}: {goal} goes alone; then make the rest")


def takes_folder(study: Study, goals: list[str], flags: str) -> bool:
    """Whether this make writes in the study's folder, so that no other may."""
    looks = {"n", "q"} & set(makefile.letters(flags)) or set(goals) <= set(LOOKING)
    return not looks and not (goals == ["report"] and study.words.switch("PARTIAL"))


def check_environment(python: str):
    """SystemExit where the Python that people gave, "" for none, lacks what every script needs."""
    missing = [name for name in NEEDED if not find_spec(name)]
    if python and missing:
        raise SystemExit(
            f"PYTHON={python}: lacks {', '.join(missing)}; give an environment that has what "
            "requirements.txt lists, or none: then .venv is made"
        )


def write(path: Path, lines: Iterator[str]):
    """Writes lines to a file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text("".join(f"{line}\n" for line in lines))
    part.replace(path)


def main():
    flags, goals, typed, *values = sys.argv[1:]
    goals = goals.split() or ["help"]
    given = words.read(typed, values)
    words.check_profile(given)
    words.check_names(given, MAKEFILES)
    words.check_values(given)
    if goals == ["help"]:
        return
    if goals == ["clean"]:
        return place.take_to_remove(given["A"])
    study = Study(given)
    made = rules(study)
    check_goals(goals, made, study)
    place.check_layout(study.folder)
    if goals != ["check"]:
        place.check_minima(study)
    steps = plan.steps(study, made, targets_of(study, made, goals), "B" in makefile.letters(flags))
    path = Path(study.at("graph.mk"))
    taken = takes_folder(study, goals, flags)
    if taken:
        place.check_own(study.folder)
        check_environment(given["PYTHON"])
        place.take(study, goals, steps)
    else:
        # make cannot include a file with a blank in its name.
        where = "/tmp" if " " in tempfile.gettempdir() else None
        path = Path(tempfile.mkstemp(suffix=TEMPORARY, dir=where)[1])
        if goals == ["report"] and not {"n", "q"} & set(makefile.letters(flags)):
            write(Path(study.at(PARTIAL)), [study.flags["report"]])
    write(path, makefile.lines(study, made, goals, flags, steps, taken))
    print(path)


if __name__ == "__main__":
    try:
        main()
    except SystemExit as error:
        print(error)  # make shows it
        sys.exit(1)
    except OSError as error:
        print(f"{error.filename}: {error.strerror}")
        sys.exit(1)
