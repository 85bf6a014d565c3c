"""The folder listing is the architecture: who imports whom, words and their files, and scripts that
start alike.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import MEASUREMENTS, METHODS, MODES, ROOT, run, words

import common
from common.making.words import Words

SCRIPTS = "train", "eval", "finetune"
GROUND = "cli", "devices", "files", "origins", "parts", "provenance", "replay", "seeds", "settings"
# What a folder may import of common/, beside itself and the ground floor.
BELOW = {
    "common/images": set(),
    "common/networks": {"images"},
    "common/measuring": {"images", "networks"},
    "common/training": {"images", "networks"},
    "common/making": set(),
}
SCRIPTS_OF_COMMON = {"check.py": {"networks"}, "graph.py": {"making"}}
# What make runs, with any Python, before there is an environment.
WITH_PYTHON_ALONE = (
    *("common/graph.py", "common/origins.py", "common/parts.py", "common/settings.py"),
    *(
        f"common/making/{name}.py"
        for name in ("contents", "journal", "makefile", "place", "plan", "recipe", "study", "words")
    ),
)


def sources(*folders):
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def imports(path):
    """The names of modules that a file imports, and of what it takes from them."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(path):
    """[(folder of the project, the module or room in it)] that a file imports.

    `import common` runs its __init__.py, which imports nothing of ours: it counts as no module.
    """
    names = [name.split(".") for name in imports(path) if "." in name]
    return [(name[0], name[1]) for name in names if name[0] in ("common", *SCRIPTS, "tests")]


def relative(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", sources("common"), ids=relative)
def test_imports_of_common_point_downwards(path):
    room = relative(path.parent)
    if room == "common":
        allowed = SCRIPTS_OF_COMMON.get(path.name, set())
    else:
        allowed = BELOW[room] | {Path(room).name}
    assert {folder for folder, _ in ours(path)} <= {"common"}
    assert {module for _, module in ours(path)} <= allowed | set(GROUND)


@pytest.mark.parametrize("path", WITH_PYTHON_ALONE)
def test_what_make_runs_needs_python_alone(path):
    for module in imports(ROOT / path):
        assert module.split(".")[0] in {"common", *sys.stdlib_module_names}, module


@pytest.mark.parametrize("path", sources(*SCRIPTS), ids=relative)
def test_scripts_import_common_and_never_each_other(path):
    if ROOT / "eval/report" in path.parents:
        assert {folder for folder, _ in ours(path)} <= {"common", "eval"}
        assert {module for folder, module in ours(path) if folder == "eval"} <= {"report"}
        names = {name for name in imports(path) if name.startswith("common.")}
        modules = "cli", "files", "origins", "provenance", "measuring.summary"
        assert names <= {f"common.{module}" for module in modules}
        assert not any(name.startswith("torch") for name in imports(path))
    else:
        assert {folder for folder, _ in ours(path)} <= {"common"}
        if path.parent.name == "eval":
            assert ("common", "training") not in ours(path)


def test_only_training_and_the_parser_know_of_several_processes():
    """Whatever measures, compares, finetunes or reports runs whole in one process."""
    telling = re.compile(
        r"MASTER_ADDR|WORLD_SIZE|torch\.distributed|processes\.\w+\(|DistributedData"
    )
    knowing = {
        relative(path) for path in sources("common", *SCRIPTS) if telling.search(path.read_text())
    }
    assert knowing - {"common/cli.py"} == {
        name for name in knowing if name.startswith("common/training/")
    }
    assert "common/training/finetuning.py" not in knowing


def test_every_word_has_its_file():
    eval_words = [*MEASUREMENTS, *words("COMPARISONS"), "battery", "tuning"]
    for folder, named in (
        ("train", words("METHODS")),
        ("eval", eval_words),
        ("finetune", words("MODES")),
    ):
        assert len(named) == len(set(named))
        assert set(named) <= {path.stem for path in (ROOT / folder).glob("[!_]*.py")}


@pytest.mark.parametrize("profile", ["demo", "small", "paper"])
def test_studies_rest_on_more_than_one_run_of_each_method(profile):
    seeds = words("SEEDS", f"PROFILE={profile}", "IMAGENET=x")
    assert len(Words({"SEEDS": " ".join(seeds)}, set()).seeds()) >= 2


@pytest.mark.parametrize("profile", ["small", "paper"])
def test_a_profile_s_reference_is_there(profile):
    flags = words("REPORT", f"PROFILE={profile}", "IMAGENET=x")
    assert (ROOT / flags[flags.index("--reference") + 1]).is_file()


def test_nothing_unpickles_freely():
    for path in sources("common", *SCRIPTS):
        text = path.read_text()
        assert not re.search(r"weights_only\s*=\s*False|import pickle|allow_pickle", text), path
        for call in re.findall(r"torch\.load\([^\n]*", text):
            assert "weights_only=True" in call


def test_without_an_engine_the_container_says_skipped(tmp_path):
    for name in "bash", "dirname", "mktemp", "rm", "id":
        (tmp_path / name).symlink_to(shutil.which(name))
    done = subprocess.run(
        ["bash", "tests/container.sh"],
        cwd=ROOT,
        env=os.environ | {"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and done.stdout.startswith("skipped: "), done


SCRIPT_NAMES = [
    "common.images.prepare",
    "eval.battery",
    "eval.report",
    "eval.tuning",
    *(f"train.{name}" for name in METHODS),
    *(f"eval.{name}" for name in MEASUREMENTS + words("COMPARISONS")),
    *(f"finetune.{name}" for name in MODES),
]


@pytest.mark.parametrize("script", SCRIPT_NAMES)
def test_every_script_explains_itself(script, monkeypatch, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, script, "--help")
    shown = capsys.readouterr().out
    assert stopped.value.code == 0
    assert ("--" in shown and "default" in shown) or script == "eval.tuning"


@pytest.mark.parametrize("script", [*SCRIPT_NAMES, "common.check"])
def test_only_pretraining_runs_on_every_rank(script, monkeypatch, capsys):
    """Under torchrun, the other ranks of every other script end with status 0 and say nothing."""
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, script, "--help")
    assert stopped.value.code == 0
    assert bool(capsys.readouterr().out) == script.startswith("train.")


def test_the_version_has_its_entry_in_the_changelog():
    headings = re.findall(r"^## (.*)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert any(common.__version__ in heading for heading in headings)
