"""The folder listing is the architecture: imports, words and files, and what the README tells people to type."""

import ast
import os
import re
import shlex
import shutil
import subprocess

import pytest
import torch
from conftest import MEASUREMENTS, ROOT, SHORT, run, words
from safetensors.torch import load_file

FOLDERS = "common", "train", "eval", "finetune"
REPORT = "eval/report"


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
        assert ours <= {"common"} | {
            f"common.{name}" for name in ("cli", "files", *words("REPORT_CODE"))
        }


def test_every_word_has_its_file_and_every_file_its_word():
    others = {"battery", "pair", "report", "tuning"}
    for named, folder, apart in (
        (words("METHODS"), "train", set()),
        (MEASUREMENTS, "eval", others),
        (words("MODES"), "finetune", set()),
    ):
        assert set(named) == {path.stem for path in sources(folder)} - apart - {"__init__"}


@pytest.mark.parametrize("profile", ["demo", "small", "paper"])
def test_studies_rest_on_more_than_one_run_of_each_method(profile):
    rule = "print: ; @echo $(SEEDS)"
    seeds = subprocess.run(
        [
            "make",
            "-s",
            f"--eval={rule}",
            "print",
            f"PROFILE={profile}",
            "IMAGENET=x",
            "PYTHON=python",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert len(seeds) >= 2


def test_size_stays_readable():
    """What makes numbers, what reads them, and what `make all MORE=1` adds (each a file that nothing else reads) have bounds of their own."""
    more = {f"{name}.py" for name in words("MEASUREMENTS_MORE")}
    sizes = {path: len(path.read_text().splitlines()) for path in sources(*FOLDERS)}
    core = {path: size for path, size in sizes.items() if path.name not in more}
    report = {path: size for path, size in core.items() if str(path.relative_to(ROOT)) in REPORT}
    assert sum(core.values()) - sum(report.values()) <= 2647
    assert sum(report.values()) <= 1125
    assert all(size <= 105 for path, size in sizes.items() if path.name in more)


def test_nothing_unpickles_freely():
    for path in sources(*FOLDERS):
        assert not re.search(
            r"weights_only\s*=\s*False|import pickle|allow_pickle", path.read_text()
        ), path
        for call in re.findall(r"torch\.load\([^\n]*", path.read_text()):
            assert "weights_only=True" in call


def test_the_readme_s_make_commands_are_understood(tmp_path):
    commands = re.findall(r"^    (make [^#\n]*)", (ROOT / "README.md").read_text(), re.M)
    assert len(commands) >= 4
    for command in commands:
        words = [
            word for word in shlex.split(command)[1:] if "sam" not in word
        ]  # the README's own example of a method is no file here
        asked = subprocess.run(
            ["make", "-n", *words, "PYTHON=python", f"A={tmp_path}"],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert asked.returncode == 0, f"{command}: {asked.stderr}"


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


def test_the_readme_s_method_works_as_it_stands(pack_file, tmp_path, monkeypatch):
    text = (ROOT / "README.md").read_text()
    code = next(block for block in re.findall(r"```python\n(.*?)```", text, re.S) if "SAM" in block)
    (tmp_path / "sam.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    results = []
    for rho in 0, 0.05:
        run(
            monkeypatch,
            "sam",
            "--data",
            pack_file,
            "--out",
            tmp_path / f"sam-{rho}",
            *SHORT,
            "--rho",
            rho,
        )
        results.append(load_file(tmp_path / f"sam-{rho}" / "weights.safetensors"))
    run(monkeypatch, "train.adam", "--data", pack_file, "--out", tmp_path / "adam-0", *SHORT)
    adam = load_file(tmp_path / "adam-0" / "weights.safetensors")
    # With rho 0 it is Adam, to the last bit.
    assert torch.equal(results[0]["conv1.weight"], adam["conv1.weight"]) and not torch.equal(
        results[1]["conv1.weight"], adam["conv1.weight"]
    )


@pytest.mark.parametrize(
    "script",
    [
        "common.images.prepare",
        "eval.battery",
        "eval.pair",
        "eval.report",
        "eval.tuning",
        *(
            f"{folder}.{name}"
            for folder, named in (
                ("train", words("METHODS")),
                ("eval", MEASUREMENTS),
                ("finetune", words("MODES")),
            )
            for name in named
        ),
    ],
)
def test_every_script_explains_itself(script, monkeypatch, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, script, "--help")
    shown = capsys.readouterr().out
    assert (
        stopped.value.code == 0 and "--" in shown and "default" in shown or script == "eval.tuning"
    )
