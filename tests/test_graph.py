"""The words of a study, and the graph that make reads: what is made of which words, what is refused
in one line, and that nothing which people type is run.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections import Counter

import pytest
from conftest import ROOT

from common.making import journal, plan, recipe
from common.making import words as study_words

# Its whole path: many systems have no `python`.
PYTHON = f"PYTHON={sys.executable}"
IMAGES = "pictures of 'mine' $(shell touch run) `touch run` #1; touch run; $HOME"


def make(*arguments, folder, environment=None):
    return subprocess.run(
        ["make", f"A={folder}", "PROFILE=smoke", PYTHON, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | (environment or {}),
    )


def commands(*arguments, folder, goal="all", environment=None):
    """The commands that make would run, taken apart as the shell does."""
    asked = make("-n", goal, *arguments, folder=folder, environment=environment)
    assert asked.returncode == 0, asked.stderr
    lines = [
        shlex.split(line)
        for line in asked.stdout.splitlines()
        if " -m common.making.recipe " in line
    ]
    # python -m common.making.recipe FOLDER STAGE TARGET WHAT python -m …
    return [line[line.index("common.making.recipe") + 5 :] for line in lines]


def modules(*arguments, folder, goal="all"):
    """{script: how often it would run}."""
    return Counter(command[2] for command in commands(*arguments, folder=folder, goal=goal))


def refused(*arguments, folder, goal="all", environment=None):
    """The one line with which make refuses."""
    asked = make(goal, *arguments, folder=folder, environment=environment)
    assert asked.returncode != 0 and not asked.stdout, asked.stdout
    (line,) = asked.stderr.strip().splitlines()
    assert not folder.exists()
    return line.partition("*** ")[2].removesuffix(".  Stop.")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "study"


def test_a_study_is_its_words(folder):
    made = commands("SEEDS=0-1", folder=folder)
    assert Counter(command[2] for command in made) == {
        "common.images.prepare": 2,
        "common.making.rehearse": 1,
        "train.adam": 2,
        "train.noisy_adam": 2,
        "train.swa": 2,
        "eval.battery": 8,  # swa/last is a control
        "eval.distance": 9,
        "eval.line": 9,
        "finetune.full": 8,
        "eval.report": 1,
    }
    compared = [
        command[command.index("--minima") + 1 :][:2] for command in made if "eval.line" in command
    ]
    names = ["--".join(path.removeprefix(f"{folder}/") for path in pair) for pair in compared]
    assert names == [
        "adam-0--adam-1",
        "adam-0--noisy_adam-1",
        "adam-0--swa-1",
        "noisy_adam-0--noisy_adam-1",
        "noisy_adam-0--swa-1",
        "swa-0--swa-1",
        "adam-0--noisy_adam-0",
        "adam-0--swa-0",
        "noisy_adam-0--swa-0",
    ]


def test_a_setting_stands_wherever_a_method_does(folder):
    made = commands(
        "METHODS=adam noisy_adam@sigma_0.1,0.2 adam@lr_2e-3@weight-decay_0",
        "PAIRED=adam noisy_adam@sigma_0.2",
        "TRAIN_noisy_adam=--lr 3e-3",
        "MODES=full full@lr_1e-2",
        folder=folder,
    )
    trained = {
        command[command.index("--setting") + 1]: command
        for command in made
        if command[2].startswith("train.")
    }
    assert list(trained) == [
        "adam",
        "noisy_adam@sigma_0.1",
        "noisy_adam@sigma_0.2",
        "adam@lr_2e-3@weight-decay_0",
    ]
    command = trained["noisy_adam@sigma_0.1"]
    assert command[2] == "train.noisy_adam" and "--lr" in command  # the profile's flags stay
    assert command[command.index("--out") + 1] == f"{folder}/noisy_adam@sigma_0.1-0"
    modes = [command for command in made if command[2] == "finetune.full"]
    assert len(modes) == 4 * 2
    assert f"{folder}/adam@lr_2e-3@weight-decay_0-0/digits/full@lr_1e-2.h5" in modes[-1]
    assert Counter(command[2] for command in made)["eval.distance"] == 1


def test_a_method_may_have_seeds_of_its_own(folder):
    made = commands("SEEDS=0-3", "SEEDS_swa=0-1", "CONTROLS=", folder=folder)
    trained = Counter(command[2] for command in made if command[2].startswith("train."))
    assert trained == {"train.adam": 4, "train.noisy_adam": 4, "train.swa": 2}
    assert Counter(command[2] for command in made)["eval.line"] == 9
    plan = make("plan", "SEEDS=0-3", "SEEDS_swa=0-1", folder=folder).stdout
    assert "  of adam noisy_adam swa swa/last; seeds 0-3, of swa 0-1" in plan
    later = commands("SEEDS=0-1", "SEEDS_swa=5", folder=folder)
    assert Counter(command[2] for command in later)["eval.line"] == 4  # pairs without swa
    assert refused("SEEDS_swa=x", folder=folder) == (
        "SEEDS_swa=x: x is not a whole number of 0 or more, nor a range such as 0-5"
    )
    assert refused("SEEDS_sva=0", folder=folder).endswith("did you mean SEEDS_swa?")


def test_a_rung_that_stands_twice_is_trained_once(folder):
    ladders = [
        "LADDERS=lr noise",
        "LADDER_lr=adam@lr_5e-4 adam adam@lr_2e-3",
        "LADDER_noise=adam noisy_adam@sigma_0.1,0.2",
    ]
    made = modules(*ladders, "METHODS=adam", folder=folder)
    assert made["train.adam"] == 3 and made["train.noisy_adam"] == 2
    assert made["eval.line"] == 0  # only what is in PAIRED is compared, METHODS by default


def test_several_tasks_have_a_pack_each(folder):
    made = commands(
        "TASKS=digits capitals",
        "TASK_capitals=glyphs:letters --image-size 32 --train-per-class 9",
        folder=folder,
    )
    packs = [command for command in made if command[2] == "common.images.prepare"]
    assert [command[4] for command in packs] == [
        f"{folder}/data/{name}.h5" for name in ("pretrain", "digits", "capitals")
    ]
    assert packs[2][5:] == ["glyphs:letters", "--image-size", "32", "--train-per-class", "9"]
    full = [command for command in made if command[2] == "finetune.full"]
    assert len(full) == 4 * 2
    assert f"{folder}/swa-0/last/capitals/full.h5" in full[-1]


def test_any_single_file_is_a_target(folder):
    goal = f"{folder}/swa-0/last/passport.h5"
    assert modules(folder=folder, goal=goal) == {
        "common.images.prepare": 1,
        "common.making.rehearse": 1,
        "train.swa": 1,
        "eval.battery": 1,
    }


@pytest.mark.parametrize(
    "typed, line",
    [
        ("EPOCH=3", "EPOCH: no such variable; did you mean EPOCHS?"),
        ("METHOD=adam", "METHOD: no such variable; did you mean METHODS?"),
        ("METHODS=adam,swa", "METHODS=adam,swa: words are separated by blanks, not by commas"),
        ("METHODS=adm", "METHODS=adm: there is no train/adm.py; did you mean adam?"),
        (
            "METHODS=sgd2",
            "METHODS=sgd2: there is no train/sgd2.py; there are adam, noisy_adam, noisy_weights, "
            "sam, swa",
        ),
        ("METHODS=", "METHODS is empty; give at least one, such as METHODS=adam"),
        ("METHODS=adam adam", "METHODS=adam adam: adam stands there twice"),
        (
            "METHODS=my-method",
            "METHODS=my-method: not a setting; write METHOD@FLAG_VALUE, such as "
            "noisy_adam@sigma_0.1 or adam@lr_2e-3@epochs_12",
        ),
        (
            "METHODS=adam@lr=1",
            "METHODS=adam@lr=1: not a setting; write METHOD@FLAG_VALUE, such as "
            "noisy_adam@sigma_0.1 or adam@lr_2e-3@epochs_12",
        ),
        ("PAIRED=adam swaa", "PAIRED=swaa: there is no train/swaa.py; did you mean swa?"),
        (
            "PAIRED=adam@lr_1",
            "PAIRED=adam@lr_1: neither METHODS nor a ladder has it; did you mean adam?",
        ),
        (
            "MEASUREMENTS=clean fsgm",
            "MEASUREMENTS=fsgm: there is no eval/fsgm.py; did you mean fgsm?",
        ),
        (
            "COMPARISONS=distances",
            "COMPARISONS=distances: there is no eval/distances.py; did you mean distance?",
        ),
        ("MODES=ful", "MODES=ful: there is no finetune/ful.py; did you mean full?"),
        ("SEEDS=a", "SEEDS=a: a is not a whole number of 0 or more, nor a range such as 0-5"),
        ("SEEDS=", "SEEDS=: no seed; give 0, or 0-5"),
        ("SEEDS=0-2 1", "SEEDS=0-2 1: a seed stands there twice"),
        ("SEEDS=0 3-1", "SEEDS=0 3-1: 3-1: ends before it begins"),
        ("SEEDS=0-99999", "SEEDS=0-99999: 0-99999: seeds are below 10000"),
        ("SEEDS=99999999999", "SEEDS=99999999999: 99999999999: seeds are below 10000"),
        ("SECONDS=20", "SECONDS=20: write KIND:SECONDS, such as pretrain:20"),
        ("TASKS=pretrain", "TASKS=pretrain: the pack of pretraining has this name"),
        ("RUNS=0", "RUNS=0: not a whole number of 1 or more"),
        ("RUNS=two", "RUNS=two: not a whole number of 1 or more"),
        ("EPOCHS=-1", "EPOCHS=-1: not a whole number of 1 or more"),
        ("JOBS=0", "JOBS=0: not a whole number of 1 or more"),
        ("GPUS=0", "GPUS=0: not a whole number of 1 or more"),
        ("THREADS=two", "THREADS=two: not a whole number of 1 or more"),
        ("MORE=maybe", "MORE=maybe: give 1 or yes; nothing, 0 or no is off"),
        ("PROFILE=papr", "PROFILE=papr: no such profile; did you mean paper?"),
        (
            "PROFILE=huge",
            "PROFILE=huge: no such profile; there are demo, paper, real, small, smoke",
        ),
        ("TRAIN_smm=--x", "TRAIN_smm: there is no train/smm.py; did you mean TRAIN_sam?"),
        (
            "TASK_digit=glyphs:digits",
            "TASK_digit: TASKS has no such word; did you mean TASK_digits?",
        ),
        (
            "FINETUNE_ful=--lr 1e-3",
            "FINETUNE_ful: there is no finetune/ful.py, and TASKS has no such word; did you mean "
            "FINETUNE_full?",
        ),
        ("TASKS=full", "TASKS=full: a mode of finetuning has this name; take another"),
        ("TASKS=digits words", "TASK_words is empty; it says what data/words.h5 is made of"),
        ("LADDERS=lr", "LADDER_lr=: a ladder has rungs, two or more"),
        ("TRAIN=--lr '1e-3", "TRAIN=--lr '1e-3: no closing quotation"),
        (
            "IMAGENET=/nowhere/at/all",
            "IMAGENET=/nowhere/at/all: PROFILE=smoke takes no folder of images",
        ),
        (
            "CONTROLS=swa_last",
            "CONTROLS=swa_last: there is no train/swa_last.py; there are adam, noisy_adam, "
            "noisy_weights, sam, swa",
        ),
        ("CONTROLS=swa", "CONTROLS=swa: write METHOD/FOLDER, such as swa/last"),
        ("run=x", "run: no such variable; make help lists them"),
    ],
)
def test_what_nothing_knows_is_one_line(typed, line, folder):
    assert refused(typed, folder=folder) == line


def project(folder):
    """A copy of what make needs, without an environment."""
    folder.mkdir(exist_ok=True)
    shutil.copy(ROOT / "Makefile", folder)
    for name in "common", "train", "eval", "finetune", "profiles":
        shutil.copytree(ROOT / name, folder / name)
    return folder


def test_a_word_of_a_profile_that_nothing_reads_is_one_line(tmp_path):
    own = project(tmp_path / "project")
    profile = own / "profiles/mine.mk"
    profile.write_text("SIZE = 32\nPRETRAIN_DATA = glyphs:letters --image-size $(SIZE)\n")
    command = ["make", "-n", "all", "PROFILE=mine", "TASK_digits=glyphs:digits", PYTHON]
    assert subprocess.run(command, cwd=own, capture_output=True).returncode == 0
    profile.write_text("METHOD = adam\nPRETRAIN_DATA = glyphs:letters\n")
    asked = subprocess.run(command, cwd=own, capture_output=True, text=True)
    assert "profiles/mine.mk: METHOD: no such variable; did you mean METHODS?" in asked.stderr


def test_the_graph_is_written_before_there_is_an_environment(tmp_path):
    """As in a fresh clone, where Python has nothing but itself."""
    own = project(tmp_path / "project")
    bare(tmp_path / "bin/python3")
    path = f"{tmp_path}/bin:{os.environ['PATH']}"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHON"} | {"PATH": path}
    command = ["make", "artifacts/demo/flags/report"]
    done = subprocess.run(command, cwd=own, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert (own / "artifacts/demo/flags/report").exists() and not (own / ".venv").exists()


def bare(path):
    """A Python without any package, as a program."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'#!/bin/sh\nexec {sys._base_executable} -S -E "$@"\n')
    path.chmod(0o755)
    return path


def test_a_goal_that_nothing_knows_is_one_line(folder):
    assert refused(folder=folder, goal="al") == "make al: no such target; did you mean all?"
    near = f"{folder}/adam-0/pasport.h5"
    assert refused(folder=folder, goal=near) == (
        f"make {near}: no such target; did you mean {folder}/adam-0/passport.h5?"
    )
    assert refused("clean", folder=folder) == "make all clean: clean goes alone; then make the rest"
    assert refused("plan", folder=folder) == "make all plan: plan goes alone; then make the rest"


def test_a_folder_of_images_is_asked_for_and_looked_for(folder):
    small = "PROFILE=small"
    assert refused(small, folder=folder) == (
        "PROFILE=small needs IMAGENET=folder with train/CLASS/*.jpg and val/CLASS/*.jpg"
    )
    assert (
        refused(small, "IMAGENET=/no where", folder=folder) == "IMAGENET=/no where: no such folder"
    )


def test_a_study_of_drawn_images_is_no_folder_that_was_named_before(folder):
    (folder / "flags").mkdir(parents=True)
    kept = folder / "flags/prepare-pretrain"
    kept.write_text("glyphs:letters --image-size 32")
    asked = make("plan", "PROFILE=small", folder=folder)
    assert asked.returncode and "PROFILE=small needs IMAGENET=folder" in asked.stderr
    kept.write_text("/my/imagenet --image-size 64")
    (command,) = [
        words for words in commands("PROFILE=small", folder=folder) if "/my/imagenet" in words
    ]
    assert command[2] == "common.images.prepare"


def test_an_old_python_and_an_old_make_are_one_line(tmp_path, folder):
    old = tmp_path / "my pythons" / "python"
    old.parent.mkdir()
    old.write_text(
        '#!/bin/sh\n[ "$1" = -c ] && exec python3 -c "import sys; sys.version_info = (3, 8); $2"\n'
        'exec python3 "$@"\n'
    )
    old.chmod(0o755)
    assert refused(f"PYTHON={old}", folder=folder) == "basins needs Python 3.11 or newer"
    assert refused("MAKE_VERSION=4.1", folder=folder) == (
        "basins needs GNU make 4.2 or newer; this is 4.1"
    )
    assert refused("PYTHON=/no/python", folder=folder) == "there is no Python at '/no/python'"


def test_only_the_folder_of_a_study_is_cleaned(folder):
    folder.mkdir()
    (folder / "thesis.tex").touch()
    asked = make("clean", folder=folder)
    assert asked.returncode and f"A={folder}: no make was at work there" in asked.stderr
    assert (folder / "thesis.tex").exists()
    (folder / "flags").mkdir()
    (folder / journal.LOCK).touch()
    assert make("clean", folder=folder).returncode == 0 and not folder.exists()


def test_flags_are_rehearsed_wherever_something_is_trained(folder):
    assert modules(folder=folder)["common.making.rehearse"] == 1
    for stage in "prepare-pretrain", "train-adam":
        subprocess.run(
            [
                "make",
                f"PYTHON={sys.executable}",
                "PROFILE=smoke",
                f"A={folder}",
                f"{folder}/flags/{stage}",
            ],
            cwd=ROOT,
            check=True,
            capture_output=True,
        )
        os.utime(folder / "flags" / stage, (1, 1))
    for path in "data/pretrain.h5", "adam-0/weights.safetensors":
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    goal = f"{folder}/adam-0/passport.h5"
    assert modules(folder=folder, goal=goal) == {"eval.battery": 1}
    again = modules("TRAIN=--lr 1", folder=folder, goal=goal)
    assert again == {"common.making.rehearse": 1, "train.adam": 1, "eval.battery": 1}
    # What another flag is refused for costs nothing: the flags are kept only after the rehearsal.
    asked = make("-n", goal, "TRAIN=--lr 1", folder=folder).stdout
    assert asked.index("common.making.rehearse") < asked.index(f" {folder}/flags/train-adam\n")
    planned = make("plan", "TRAIN=--lr 1", folder=folder).stdout.splitlines()
    reason = "because the flags of train-adam changed"
    assert f"  made again, although there: 1 file, {reason}" in planned


@pytest.mark.parametrize("place", ["", "notes.txt", "other/notes.txt"])
def test_a_study_has_a_folder_of_its_own(place, folder):
    path = folder / place / "x"
    path.parent.mkdir(parents=True)
    path.touch()
    asked = make("all", folder=folder)
    assert asked.returncode and f"A={folder}: holds " in asked.stderr, asked.stderr
    assert "and no study; give a folder of its own" in asked.stderr


def test_a_study_does_not_lie_in_another(folder):
    (folder / "flags").mkdir(parents=True)
    (folder / journal.LOCK).touch()
    asked = make("all", folder=folder / "adam-0")
    line = f"A={folder}/adam-0: lies in {folder}, which is a study's; give another folder"
    assert asked.returncode and line in asked.stderr


def test_an_environment_without_the_requirements_is_one_line(tmp_path, folder):
    python = bare(tmp_path / "bin/python")
    line = refused(f"PYTHON={python}", folder=folder)
    assert line.startswith(
        f"PYTHON={python}: lacks torch, torchvision, numpy, h5py, safetensors, sklearn; "
    )


def test_a_report_on_a_part_asks_for_no_lock_and_counts_for_nothing(folder):
    asked = make("report", "PARTIAL=1", f"PYTHON={sys.executable}", folder=folder)
    assert asked.returncode and f"{folder}/adam-0/training.h5 and " in asked.stderr
    assert " other files are not there; make all makes them" in asked.stderr
    assert sorted(path.name for path in (folder / "flags").iterdir()) == ["report-partial"]
    assert not (folder / journal.JOURNAL).exists()


def test_a_folder_that_make_cannot_name_is_one_line(tmp_path):
    for name in "my study", "a:b", "$(HOME)", "a#b", "per%cent":
        line = refused(folder=tmp_path / name)
        assert line == (
            f"A={tmp_path / name}: make cannot work in a folder of this name; letters, digits and "
            "./+,@_- are fine"
        )


def test_what_people_type_reaches_the_script_as_it_is_and_runs_nothing(tmp_path, folder):
    images = tmp_path / IMAGES
    images.mkdir()
    made = commands("PROFILE=small", f"IMAGENET={images}", folder=folder)
    assert made[0][5] == str(images)
    typed = "--train-images 5 '$(shell touch run) `touch run`' \"#;\""
    made = commands(f"TRAIN={typed}", folder=folder)
    train = next(command for command in made if command[2] == "train.adam")
    assert train[train.index("--train-images") + 2 :][:2] == [
        "$(shell touch run) `touch run`",
        "#;",
    ]
    assert not (tmp_path / "run").exists() and not (ROOT / "run").exists()


def test_the_environment_changes_nothing(folder):
    names = [
        "A",
        "TRAIN",
        "TRAIN_adam",
        "SEEDS",
        "METHODS",
        "RUN",
        "READY",
        "LOCKED",
        "CACHE",
        "LAUNCH",
        "JOBS",
        "GPUS",
        "V",
        "MORE",
        "PARTIAL",
        "PROFILE",
        "RUNS",
        "IMAGENET",
        "run",
        "on",
        "ready",
        "python",
        "typed",
        "SHOW",
        "LADDERS",
        "SECONDS",
        "TASKS",
        "FOLDER_pretrain",
        "OUT",
        "TESTS",
    ]
    environment = dict.fromkeys(names, "/nonsense")
    assert commands(folder=folder, environment=environment) == commands(folder=folder)


def test_to_look_leaves_no_trace(folder):
    for goal in ["-n", "all"], ["-q", "all"], ["plan"], ["help"]:
        make(*goal, folder=folder)
    assert not folder.exists()


def test_an_older_version_s_files_are_named(folder):
    older = folder / "adam-0/finetune-full.h5"
    older.parent.mkdir(parents=True)
    older.touch()
    asked = make("all", folder=folder)
    assert asked.returncode and len(asked.stderr.splitlines()) == 1
    assert f"{older}: made by an older version, whose files lay in other places" in asked.stderr
    assert os.listdir(folder) == ["adam-0"]


def test_switches_are_what_people_mean(folder):
    more = modules("MORE=yes", folder=folder)["eval.battery"]
    assert more == modules("MORE=1", folder=folder)["eval.battery"] == 8
    for off in "", "0", "no":
        assert modules(f"MORE={off}", folder=folder)["eval.battery"] == 4


def test_the_plan_says_what_and_why(folder):
    asked = make("plan", folder=folder).stdout.splitlines()
    assert asked[0] == f"{folder}: 4 minima"
    assert asked[1] == "  of adam noisy_adam swa swa/last; seeds 0"
    assert ["pretrain", "3", "of", "3"] in [line.split()[:4] for line in asked]


def write(folder, *events):
    folder.mkdir(exist_ok=True)
    lines = [json.dumps({"time": time.time()} | event) for event in events]
    (folder / journal.JOURNAL).write_text("".join(f"{line}\n" for line in lines))
    return journal.Journal(str(folder))


TRAIN = {"stage": "train-adam", "kind": "pretrain"}
MEASURE = {"stage": "passport", "kind": "measure"}


def test_what_is_left_follows_from_what_has_ended(folder, monkeypatch):
    monkeypatch.setenv("MAKEFLAGS", " -j2 --jobserver-auth=3,4")
    to_make = [["pretrain", "train-adam", 4], ["measure", "passport", 4]]
    begun = {"event": "make", "to_make": to_make}
    ended = {"event": "ended", **TRAIN, "target": "a", "seconds": 60.0}
    own = write(folder, begun, {"event": "began", **TRAIN, "target": "a"}, ended)
    assert recipe.progress(own, None) == (1, 8, "at least 90 s left")  # 3 of 60 s, 2 at once
    measured = {"event": "ended", **MEASURE, "target": "b", "seconds": 100.0}
    own = write(folder, measured, begun, {"event": "began", **TRAIN, "target": "a"}, ended)
    assert recipe.progress(own, None) == (1, 8, "about 5 min left")  # (180 + 400) s, 2 at once
    own = write(folder, begun | {"expected": {"pretrain": 30, "measure": 15}})
    assert recipe.progress(own, None) == (0, 8, "about 90 s left")


def test_times_of_other_flags_count_for_nothing(folder):
    old = {"event": "ended", **TRAIN, "target": "a", "seconds": 60.0, "time": time.time() - 100}
    own = write(folder, old)
    assert own.seconds(own.events(), {})
    (folder / "flags").mkdir()
    (folder / "flags/train-adam").write_text("--epochs 80")
    assert not own.seconds(own.events(), {})


def test_a_damaged_line_of_the_journal_counts_for_nothing(folder):
    own = write(folder, {"event": "ended", **TRAIN, "target": "a", "seconds": 60.0})
    with open(folder / journal.JOURNAL, "a") as file:
        file.write('{"event": "en')
    assert len(own.events()) == 1


def test_an_estimate_is_never_below_its_longest_recipe():
    seconds = {("pretrain", "train-adam"): 100.0}
    left = journal.remaining(Counter({("pretrain", "train-adam"): 1}), seconds, jobs=8)
    assert left.seconds == 100


def test_nearest_says_nothing_where_nothing_is_near():
    assert study_words.nearest("xyz", ["adam", "swa"]) == ""


def test_a_recipe_says_what_and_keeps_what_it_printed(folder):
    folder.mkdir()
    command = [
        sys.executable,
        "-m",
        "common.making.recipe",
        folder,
        "train-adam",
        folder / "adam-0/weights",
    ]
    script = "echo epoch 1; echo wrong >&2; exit 3"
    done = subprocess.run(
        [*command, "pretrain adam-0", "sh", "-c", script], cwd=ROOT, capture_output=True, text=True
    )
    log = folder / "logs/adam-0/weights.log"
    assert done.returncode == 3 and done.stdout == "pretrain adam-0\n"
    assert done.stderr == (
        f"wrong\nfailed: pretrain adam-0 (status 3); {log} has what it printed\n"
    )
    assert log.read_text() == f"$ sh -c {shlex.quote(script)}\nepoch 1\n"


@pytest.mark.parametrize(
    "number, words",
    [
        (
            "KILL",
            "status 137: SIGKILL, as the system does where memory ends; JOBS=1 needs the least",
        ),
        (
            "BUS",
            "status 135: SIGBUS, as where a file it reads is cut short; the same command goes on",
        ),
        ("SEGV", "status 139: SIGSEGV"),
    ],
)
def test_a_recipe_that_a_signal_ends_says_which(folder, number, words):
    folder.mkdir()
    recipe_of = [
        sys.executable,
        "-m",
        "common.making.recipe",
        folder,
        "s",
        folder / "x",
        "measure x",
    ]
    done = subprocess.run(
        [*recipe_of, "sh", "-c", f"kill -{number} $$"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stderr == f"failed: measure x ({words})\n"


@pytest.mark.parametrize("cores, threads, at_once", [(2, 1, 2), (8, 4, 2), (1, 2, 1), (64, 1, 64)])
def test_as_many_recipes_run_at_once_as_cores_may_be_used(cores, threads, at_once, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(cores))
    monkeypatch.setattr(plan.Path, "read_text", lambda _: "max 100000")  # a container's limit
    for given in "1", "64":
        monkeypatch.setenv("OMP_NUM_THREADS", given)  # a cluster's default, a person's own
        assert plan.jobs(study_words.Words({"THREADS": str(threads)}, set())) == at_once
    monkeypatch.setattr(plan.Path, "read_text", lambda _: "200000 100000")
    assert plan.jobs(study_words.Words({"THREADS": "1"}, set())) == min(cores, 2)
