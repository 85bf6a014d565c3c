"""The folder listing is the architecture: imports, words and files, and what the README tells people to type."""
import ast
import re
import subprocess

import pytest
from conftest import ROOT, words

FOLDERS = "common", "train", "eval", "finetune"
REPORT = "eval/report.py", "common/stats.py", "common/figures.py", "common/page.py"


def sources(*folders):
    return [path for folder in folders for path in sorted((ROOT / folder).glob("*.py"))]


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", sources(*FOLDERS), ids=lambda path: str(path.relative_to(ROOT)))
def test_scripts_import_common_and_never_each_other(path):
    ours = {name for name in imports(path) if name.split(".")[0] in FOLDERS}
    assert {name.split(".")[0] for name in ours} <= {"common"}
    if str(path.relative_to(ROOT)) in REPORT:
        assert not any(name.startswith("torch") for name in imports(path))
        assert ours <= {"common"} | {f"common.{name}" for name in ("cli", "files", "stats", "figures", "page")}


def test_every_word_has_its_file_and_every_file_its_word():
    others = {"battery", "pair", "report", "tuning"}
    for list_name, folder, apart in ("METHODS", "train", set()), ("MEASUREMENTS", "eval", others), ("MODES", "finetune", set()):
        assert set(words(list_name)) == {path.stem for path in sources(folder)} - apart - {"__init__"}


@pytest.mark.parametrize("profile", ["demo", "small", "paper"])
def test_studies_rest_on_more_than_one_run_of_each_method(profile):
    rule = "print: ; @echo $(SEEDS)"
    seeds = subprocess.run(["make", "-s", f"--eval={rule}", "print", f"PROFILE={profile}", "IMAGENET=x", "PYTHON=python"], cwd=ROOT,
                           capture_output=True, text=True, check=True).stdout.split()
    assert len(seeds) >= 2


def test_size_stays_readable():
    assert sum(len(path.read_text().splitlines()) for path in sources(*FOLDERS)) <= 2300


def test_nothing_unpickles_freely():
    for path in sources(*FOLDERS):
        assert not re.search(r"weights_only\s*=\s*False|import pickle|allow_pickle", path.read_text()), path
        for call in re.findall(r"torch\.load\([^\n]*", path.read_text()):
            assert "weights_only=True" in call


def test_the_readme_s_make_commands_are_understood():
    commands = re.findall(r"^(?:\$ )?(make [^#\n|]*)", (ROOT / "README.md").read_text(), re.M)
    assert len(commands) >= 4
    for command in commands:
        flags = [word for word in command.split()[1:]]
        asked = subprocess.run(["make", "-n", *flags, "PYTHON=python", "A=artifacts/none"], cwd=ROOT, capture_output=True, text=True)
        assert asked.returncode == 0, f"{command}: {asked.stderr}"
