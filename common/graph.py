"""The graph of a study: one plain make rule a file, written from the words of the Makefile.

    python -m common.graph MAKEFLAGS "GOALS" typed:NAME=value file:NAME=value …

make runs this when it starts and includes the makefile whose path this prints: graph.mk in the
study's folder, or under `make -n` and `make -q`, which leave no trace, a temporary one. A mistake
is one line and status 1. Needs Python's standard library alone.

A function yields the rules of one stage; `rules` names the stages in their order.
"""

import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from common import journal, plan, settings, words
from common.words import Words

MAKEFILES = ["Makefile", "common/machine.mk"]
PROFILE = "profiles/{}.mk"
# Targets of the Makefile that are no files; those of them that make nothing in the folder.
PHONY = ("all", "report", "tune", "plan", "check", "clean", "help")
LOOKING = ("plan", "check", "help")


@dataclass
class Rule:
    """`target` is made from `needs` by a command, whose flags are kept in flags/`stage`."""

    target: str
    needs: list[str]
    command: list[str] | str  # of Python: ["-m", …]; or, as text, of the shell
    stage: str = ""
    what: str = ""  # that the command does, for who watches; its first word is the kind of stage
    first: str = ""  # made before it; being newer remakes nothing
    listed: bool = False  # the command reads its flags from flags/`stage`: they are too many
    shown: bool = False  # what it prints is for people


@dataclass(frozen=True)
class Minimum:
    """A folder that holds weights.safetensors. `left` is what a method leaves beside its own."""

    setting: str
    seed: int
    left: str = ""

    @property
    def name(self) -> str:
        """The folder, inside the study's."""
        return f"{self.setting}-{self.seed}" + (f"/{self.left}" if self.left else "")


@dataclass
class Study:
    """The words, checked, and what follows from them."""

    words: Words
    flags: dict[str, str] = field(default_factory=dict)  # {stage: the text of flags/STAGE}

    def __post_init__(self):
        self.folder = self.words["A"]
        self.seeds = self.words.seeds()
        self.methods = self.words.settings("METHODS", "train")
        if not self.methods:
            raise SystemExit("METHODS is empty; give at least one, such as METHODS=adam")
        self.ladders = {
            name: self.words.settings(f"LADDER_{name}", "train")
            for name in self.words.names("LADDERS")
        }
        for name, rungs in self.ladders.items():
            if len(rungs) < 2:
                raise SystemExit(
                    f"LADDER_{name}={' '.join(rungs)}: a ladder has rungs, two or more"
                )
        self.paired = self.words.settings("PAIRED", "train")
        for word in self.paired:
            if word not in self.trained_settings:
                raise SystemExit(
                    f"PAIRED={word}: neither METHODS nor a ladder has it"
                    f"{words.nearest(word, self.trained_settings)}"
                )
        self.tasks = self.words.names("TASKS")
        self.modes = self.words.settings("MODES", "finetune")
        self.comparisons = self.words.files("COMPARISONS", "eval")
        self.measurements = {"passport": self.words.files("MEASUREMENTS", "eval")}
        more = self.words.files("MEASUREMENTS_MORE", "eval")
        if self.words.switch("MORE"):
            self.measurements["passport-more"] = more

    def at(self, *parts: str) -> str:
        """A path in the study's folder."""
        return "/".join([self.folder, *parts])

    def keep(self, stage: str, flags: list[str], a_line_each: bool = False) -> str:
        """Notes the flags of a stage, which make keeps in flags/STAGE: changed flags remake it."""
        self.flags[stage] = "\n".join(flags) if a_line_each else shlex.join(flags)
        return stage

    def kept(self, stage: str) -> str:
        """The file in which the flags of a stage are kept."""
        return self.at("flags", stage)

    @property
    def deterministic(self) -> list[str]:
        return ["--deterministic"] if self.words.switch("DETERMINISTIC") else []

    @cached_property
    def trained_settings(self) -> list[str]:
        """METHODS and the rungs of all ladders, each once."""
        rungs = [rung for ladder in self.ladders.values() for rung in ladder]
        return list(dict.fromkeys([*self.methods, *rungs]))

    @cached_property
    def trained(self) -> list[Minimum]:
        return [Minimum(setting, seed) for setting in self.trained_settings for seed in self.seeds]

    @cached_property
    def left(self) -> list[Minimum]:
        """What methods leave beside their minima: for swa/last swa-0/last, swa-1/last, …"""
        minima = []
        for word in self.words.each("CONTROLS"):
            method, slash, name = word.partition("/")
            words.check_file("CONTROLS", method, "train")
            if not slash or not words.NAME.fullmatch(name):
                raise SystemExit(f"CONTROLS={word}: write METHOD/FOLDER, such as swa/last")
            minima += [
                Minimum(minimum.setting, minimum.seed, name)
                for minimum in self.trained
                if settings.method(minimum.setting) == method
            ]
        return minima

    @property
    def minima(self) -> list[Minimum]:
        return self.trained + self.left

    @cached_property
    def pairs(self) -> list[tuple[Minimum, Minimum]]:
        """a-0--b-1 for a <= b (independent runs), then a-0--b-0 for a < b (a shared start)."""
        ordered = [(a, b) for k, a in enumerate(self.paired) for b in self.paired[k:]]
        pairs = []
        if len(self.seeds) > 1:
            first, second = self.seeds[:2]
            pairs = [(Minimum(a, first), Minimum(b, second)) for a, b in ordered]
        first = self.seeds[0]
        return pairs + [(Minimum(a, first), Minimum(b, first)) for a, b in ordered if a != b]


def packs(study: Study) -> Iterator[Rule]:
    """The packs of images: for pretraining, and one for each task."""
    sources = {"pretrain": "PRETRAIN_DATA"} | {task: f"TASK_{task}" for task in study.tasks}
    for name, variable in sources.items():
        target = study.at("data", f"{name}.h5")
        stage = study.keep(f"prepare-{name}", source_of(study, name, variable))
        command = ["-m", "common.images.prepare", "--out", target]
        needs = ["common/images/prepare.py", "common/images/sources.py"]
        yield Rule(target, needs, command, stage, f"prepare {name}")


def source_of(study: Study, name: str, variable: str) -> list[str]:
    """The flags that say what a pack is made of.

    A folder of images that is not named again stays the one that the pack was made from.
    """
    flags = study.words.flags(variable)
    folder = study.words[f"FOLDER_{name}"]  # the variable in which people name it
    kept = Path(study.at("flags", f"prepare-{name}"))
    if folder and not study.words[folder] and kept.exists():
        return shlex.split(kept.read_text())
    if not flags:
        raise SystemExit(f"{variable} is empty; it says what data/{name}.h5 is made of")
    if not flags[0]:
        raise SystemExit(
            f"PROFILE={study.words['PROFILE']} needs {folder}=folder with train/CLASS/*.jpg and "
            "val/CLASS/*.jpg"
        )
    return flags


def pretraining(study: Study) -> Iterator[Rule]:
    """The minima, each with the curves of its training, and what some leave beside them."""
    pack = study.at("data/pretrain.h5")
    for minimum in study.trained:
        method, folder = settings.method(minimum.setting), study.at(minimum.name)
        stage = study.keep(f"train-{method}", training_flags(study, method))
        yield Rule(
            f"{folder}/weights.safetensors",
            [f"train/{method}.py", pack],
            training(pack, folder, minimum),
            stage,
            f"pretrain {minimum.name}",
            first=study.at("flags/rehearsed-study"),
        )
        yield same_run(f"{folder}/training.h5", f"{folder}/weights.safetensors")
    for minimum in study.left:
        weights = study.at(f"{minimum.setting}-{minimum.seed}", "weights.safetensors")
        yield same_run(study.at(minimum.name, "weights.safetensors"), weights)


def training_flags(study: Study, method: str) -> list[str]:
    """The flags of a method: the profile's, for all of its settings."""
    given = study.words.flags("TRAIN", f"TRAIN_{method}")
    return ["--epochs", study.words["EPOCHS"], *given, *study.deterministic]


def training(pack: str, folder: str, minimum: Minimum) -> list[str]:
    """The command that trains a minimum, but for the flags that are kept."""
    method = settings.method(minimum.setting)
    command = ["-m", f"train.{method}", "--data", pack, "--out", folder]
    return [*command, "--seed", str(minimum.seed), "--setting", minimum.setting]


def same_run(target: str, weights: str) -> Rule:
    """What the run that made the weights wrote before them: touched, so that it is not older."""
    missing = f"{target}: missing, although {weights} is there; move that away and run make again"
    command = (
        f"@rm -f $(@D)/resume.h5; touch -c $@; test -e $@ || {{ echo '{missing}' >&2; exit 1; }}"
    )
    return Rule(target, [weights], command)


def measuring(study: Study) -> Iterator[Rule]:
    """A passport a minimum; its second volume holds what takes longer."""
    pack = study.at("data/pretrain.h5")
    for volume, names in study.measurements.items():
        given = [flag for name in names for flag in (*study.words.flags(f"MEASURE_{name}"), name)]
        stage = study.keep(volume, study.words.flags("MEASURE") + study.deterministic + given)
        scripts = ["eval/battery.py", *(f"eval/{name}.py" for name in names)]
        for minimum in study.minima:
            folder = study.at(minimum.name)
            target = f"{folder}/{volume}.h5"
            command = ["-m", "eval.battery", "--data", pack, "--minimum", folder, "--out", target]
            needs = [*scripts, f"{folder}/weights.safetensors", pack]
            more = " (more)" if volume == "passport-more" else ""
            yield Rule(target, needs, command, stage, f"measure {minimum.name}{more}")


def comparing(study: Study) -> Iterator[Rule]:
    """A file a pair of minima and comparison."""
    pack = study.at("data/pretrain.h5")
    for comparison in study.comparisons:
        given = study.words.flags("COMPARE", f"COMPARE_{comparison}")
        stage = study.keep(f"compare-{comparison}", given + study.deterministic)
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
            given = finetuning_flags(study, mode)
            runs = ["--runs", study.words["RUNS"]]
            stage = study.keep(f"finetune-{task}-{settings.method(mode)}", runs + given)
            for minimum in study.minima:
                target = study.at(minimum.name, task, f"{mode}.h5")
                yield finetuned(study, minimum, task, mode, target, stage)


def finetuning_flags(study: Study, mode: str) -> list[str]:
    """The flags of a mode, for all of its settings."""
    given = study.words.flags("FINETUNE", f"FINETUNE_{settings.method(mode)}")
    return given + study.deterministic


def finetuned(
    study: Study, minimum: Minimum, task: str, mode: str, target: str, stage: str
) -> Rule:
    """The finetuning of one minimum."""
    script, pack, folder = settings.method(mode), study.at("data", f"{task}.h5"), minimum.name
    needs = [f"finetune/{script}.py", study.at(folder, "weights.safetensors"), pack]
    command = ["-m", f"finetune.{script}", "--data", pack, "--minimum", study.at(folder)]
    command += ["--out", target, "--setting", mode]
    what = f"{'tune' if stage.startswith('tune') else 'finetune'} {folder} on {task} ({mode})"
    return Rule(target, needs, command, stage, what)


def tuning(study: Study) -> Iterator[Rule]:
    """Settings that `make tune` tries on val: seed 0, finetuning from the first minimum."""
    pack, tune = study.at("data/pretrain.h5"), study.words.flags("TUNE")
    for setting in study.words.settings("TUNE_METHODS", "train"):
        method, minimum = settings.method(setting), Minimum(setting, 0)
        folder = study.at("tune", minimum.name)
        stage = study.keep(f"tune-{method}", training_flags(study, method) + tune)
        weights = f"{folder}/weights.safetensors"
        command = training(pack, folder, minimum)
        what = f"tune {setting}"
        first = study.at("flags/rehearsed-tune")
        yield Rule(weights, [f"train/{method}.py", pack], command, stage, what, first)
        yield same_run(f"{folder}/training.h5", weights)
    for mode in study.words.settings("TUNE_MODES", "finetune"):
        runs = ["--runs", study.words["TUNE_RUNS"]]
        stage = f"tune-finetune-{settings.method(mode)}"
        flags = runs + finetuning_flags(study, mode) + ["--measure-on", "val"]
        study.keep(stage, flags)
        minimum, task = study.minima[0], study.tasks[0]
        target = study.at("tune", minimum.name, task, f"{mode}.h5")
        yield finetuned(study, minimum, task, mode, target, stage)


def rehearsal(study: Study, name: str, made: list[Rule]) -> Rule:
    """Every command once, stopped where its work would begin: before anything is trained, it is
    known whether all flags are understood, and whether two settings are one.
    """
    scripts = ("train/", "eval/", "finetune/")
    commands, needs = {}, set()
    for rule in made:
        if isinstance(rule.command, list) and rule.needs[0].startswith(scripts):
            setting = rule.command[-1] if "--setting" in rule.command else ""
            flags = shlex.split(study.flags[rule.stage])
            commands.setdefault((rule.stage, setting), shlex.join([*rule.command[1:], *flags]))
            needs.update(need for need in rule.needs if need.startswith(scripts))
    paired = ["--paired", " ".join(study.paired)] if study.comparisons else []
    stage = study.keep(f"rehearse-{name}", [*paired, *commands.values()], a_line_each=True)
    target = study.at("flags", f"rehearsed-{name}")
    command = ["-m", "common.rehearse", "--out", target, f"@{study.kept(stage)}"]
    what = "check the flags of every command"
    return Rule(target, sorted(needs), command, stage, what, listed=True)


def report(study: Study, results: list[Rule], tuned: list[Rule]) -> Rule:
    """The page. What was tuned is shown as it is; a study does not tune again by itself."""
    flags = ["--profile", study.words["PROFILE"]]
    inputs, made = [], []
    for rule in results:
        if rule.stage.startswith("prepare-"):
            flags += ["--pack", rule.target]
        elif rule.target.endswith(".h5"):
            made.append(rule.target)
        inputs += [rule.target] if rule.target.endswith(".h5") else []
    for rule in tuned:
        if rule.target.endswith(".h5") and Path(rule.target).exists():
            flags += ["--tuned", rule.target]
    stage = study.keep("report", [*flags, *study.words.flags("REPORT"), *made], a_line_each=True)
    patterns = ("*.py", "*.json", "sections/*.py", "templates/*")
    needs = [str(path) for each in patterns for path in sorted(Path("eval/report").glob(each))]
    tuning_table = study.at("tune/table.txt")
    needs += [*inputs, *([tuning_table] if Path(tuning_table).exists() else [])]
    command = ["-m", "eval.report", "--out", study.at("report"), f"@{study.kept(stage)}"]
    page = study.at("report/index.html")
    return Rule(page, needs, command, stage, "report", listed=True, shown=True)


def report_alone(study: Study, page: Rule) -> Rule:
    """`make report`: the page from the files as they are; with PARTIAL also where some are missing,
    in a folder of its own.
    """
    out = ["--partial", "--out", study.at("report-partial")]
    command = [*page.command, *(out if study.words.switch("PARTIAL") else [])]
    return Rule("report", [], command, page.stage, "report", listed=True, shown=True)


def tuning_table(study: Study, tuned: list[Rule]) -> Rule:
    """The table of all that was tuned."""
    files = [rule.target for rule in tuned if rule.target.endswith(".h5")]
    command = f"@$(on) -m eval.tuning {shlex.join(files)} > $@.part && mv $@.part $@"
    return Rule(study.at("tune/table.txt"), ["eval/tuning.py", *files], command)


def rules(study: Study) -> list[Rule]:
    """All rules of a study, in the order of its stages."""
    made = [*packs(study), *pretraining(study), *measuring(study), *comparing(study)]
    made += finetuning(study)
    tuned = list(tuning(study))
    page = report(study, made, tuned)
    checks = [rehearsal(study, "study", made), rehearsal(study, "tune", tuned)]
    return [*checks, *made, page, *tuned, tuning_table(study, tuned), report_alone(study, page)]


def makefile(study: Study, made: list[Rule], jobs: int | None, process: int) -> Iterator[str]:
    """The text that make reads. `$(run)` and `$(on)`, who runs a command and where, are in
    common/machine.mk.
    """
    yield f"# The rules of {study.folder}, which common/graph.py wrote for make."
    if jobs:
        yield f"MAKEFLAGS += -j{jobs}"
    if process:
        yield f"export MAKE_PROCESS := {process}"
    targets = " ".join(rule.target for rule in made if rule.target != "report")
    yield "# Files are written whole or not at all: none is make's to delete."
    yield f".PRECIOUS: {targets}\n"
    for stage in study.flags:
        if plan.flags_changed(study.kept(stage), study.flags[stage]):
            new = study.at("flags/new", stage)
            yield f"{study.kept(stage)}: FORCE\n\t@mv {new} $@\n"
    yield from (text(study, rule) for rule in made)
    yield f"tune: {study.at('tune/table.txt')}\n\t@cat $<"


def text(study: Study, rule: Rule) -> str:
    """One rule as make reads it."""
    needs, command = [*rule.needs], rule.command
    if rule.stage:
        needs.append(study.kept(rule.stage))
    if isinstance(command, list):
        about = shlex.join([study.folder, rule.stage, rule.target, rule.what])
        flags = "" if rule.listed else study.flags[rule.stage]
        command = f"{shlex.join(command)} {flags}".strip().replace("$", "$$")
        command = f"$({'show' if rule.shown else 'run'}) {about} $(on) {command}"
    # Where the target is there, its flags were understood before.
    first = "" if Path(rule.target).exists() else rule.first
    return f"{rule.target}: {' '.join(needs)} | $(ready) {first}".rstrip() + f"\n\t{command}\n"


def check_goals(goals: list[str], made: list[Rule], study: Study):
    """SystemExit where a goal is neither a target of the Makefile nor a file of the study."""
    known = {*PHONY, *(rule.target for rule in made), *map(study.kept, study.flags)}
    for goal in goals:
        if os.path.normpath(goal) not in known:
            hint = words.nearest(os.path.normpath(goal), sorted(known))
            raise SystemExit(f"make {goal}: no such target{hint or '; make help lists them'}")
    if "clean" in goals and len(goals) > 1:
        raise SystemExit(f"make {' '.join(goals)}: clean goes alone; then make the rest")


def check_layout(folder: str):
    """SystemExit where an older version made the folder's files, in other places."""
    older = ("*-*/finetune-*.h5", "*-*/last.safetensors", "*--*/pair.h5", "data/finetune.h5")
    for pattern in older:
        for path in Path(folder).glob(pattern):
            raise SystemExit(
                f"{path}: made by an older version, whose files lay in other places; make the "
                f"study in another folder (A=artifacts/NAME), or give {folder} another name"
            )


def check_profile(study_words: Words):
    """SystemExit where PROFILE names no profile."""
    name = study_words["PROFILE"]
    if not Path(PROFILE.format(name)).is_file():
        known = sorted(path.stem for path in Path("profiles").glob("*.mk"))
        hint = words.nearest(name, known) or f"; there are {', '.join(known)}"
        raise SystemExit(f"PROFILE={name}: no such profile{hint}")


def wanted(study: Study, goals: list[str]) -> list[str]:
    """The targets of rules that goals stand for."""
    page, table = study.at("report/index.html"), study.at("tune/table.txt")
    stand_for = {"all": page, "plan": page, "tune": table}
    return [stand_for.get(goal, os.path.normpath(goal)) for goal in goals]


def begin(study: Study, goals: list[str], steps: list[plan.Step], make: int):
    """Takes the folder for this make: no other works there until it ends."""
    journal.lock(study.folder, " ".join(goals), make)
    for path in Path(study.folder).rglob(".*.part"):
        path.unlink()
    new = Path(study.at("flags/new"))
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    stages = {step.rule.stage for step in steps if step.rule.stage}
    stages |= {Path(goal).name for goal in goals if Path(goal).parent == new.parent}
    for stage in stages:
        if plan.flags_changed(study.kept(stage), study.flags[stage]):
            Path(new, stage).write_text(study.flags[stage])
    expected = plan.profile_seconds(study.words)
    journal.Journal(study.folder).write(
        "make", goals=" ".join(goals), to_make=plan.count(steps), expected=expected
    )


def main():
    flags, goals, *arguments = sys.argv[1:]
    goals = goals.split() or ["help"]
    given = words.read(arguments)
    check_profile(given)
    words.check_names(given, [*MAKEFILES, PROFILE.format(given["PROFILE"])])
    words.check_values(given)
    if goals == ["help"]:
        return
    study = Study(given)
    made = rules(study)
    check_goals(goals, made, study)
    short = "" if flags.startswith("-") else flags.split(" ")[0]
    looks = {"n", "q"} & set(short) or set(goals) <= set(LOOKING)
    if goals != ["clean"]:
        check_layout(study.folder)
    steps = plan.steps(study, made, wanted(study, goals), everything="B" in short)
    process = os.getppid()
    takes = not looks and not (goals == ["report"] and given.switch("PARTIAL"))
    if takes:
        begin(study, goals, steps, process)
    jobs = None if "-j" in flags else plan.jobs(given)
    lines = [*makefile(study, made, jobs, process if takes else 0)]
    page = study.at("report/index.html")
    # A target with a recipe is never up to date for make -q.
    lines.append(f"all: {page}" + ("" if "q" in short else f"\n\t@echo 'report: {page}'"))
    if goals == ["plan"]:
        told = [f"\t@echo {shlex.quote(line)}" for line in plan.told(study, steps)]
        lines.append("\n".join(["plan:", *told]).replace("$", "$$"))
    content = "\n".join(lines) + "\n"
    if looks:
        with tempfile.NamedTemporaryFile("w", suffix=".mk", delete=False) as file:
            file.write(content)
        print(file.name)
    else:
        part = Path(study.at(".graph.mk.part"))
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(content)
        print(part.replace(study.at("graph.mk")))


if __name__ == "__main__":
    try:
        main()
    except SystemExit as error:
        print(error)  # make shows it
        sys.exit(1)
