"""Recipes that share a process: each is what it would be by itself, and fails by itself."""

import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT
from test_graph import PYTHON, refused

from common.making import together

TINY = """
import atexit, json, os, pathlib, sys
if __name__ == "__main__":
    atexit.register(lambda: print("at its end"))
    out, what = sys.argv[1:]
    print("argv", json.dumps([sys.argv, sys.orig_argv]))
    if what == "line":
        raise SystemExit(f"{out}: wrong")
    if what == "trace":
        raise ValueError(out)
    if what == "kill":
        os.kill(os.getpid(), 9)
    pathlib.Path(out).write_text(what)
"""


def carried_out(tmp_path, *whats, script=TINY):
    """What becomes of recipes of a small script, which share a process."""
    (tmp_path / "tiny.py").write_text(script)
    folder, words = tmp_path / "study", []
    folder.mkdir()
    for number, what in enumerate(whats):
        command = [sys.executable, "-m", "tiny", folder / f"{number}", what]
        words += [len(command), folder / f"{number}", f"measure {number}", *command]
    return subprocess.run(
        [sys.executable, "-m", "common.making.together", folder, "stage", *map(str, words)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )


def test_each_is_what_it_would_be_by_itself(tmp_path):
    done = carried_out(tmp_path, "one", "two $HOME")
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout == "measure 0\nmeasure 1\n"
    folder = tmp_path / "study"
    for number, what in enumerate(["one", "two $HOME"]):
        assert (folder / f"{number}").read_text() == what
        _, told, end = (folder / f"logs/{number}.log").read_text().splitlines()
        argv, command = json.loads(told.removeprefix("argv "))
        flags = [str(folder / f"{number}"), what]
        assert argv == [str(tmp_path / "tiny.py"), *flags] and end == "at its end"
        assert command == [sys.executable, "-m", "tiny", *flags]


@pytest.mark.parametrize(
    "how, line, status",
    [
        ("line", "{out}: wrong", "status 1"),
        ("trace", "ValueError: {out}", "status 1"),
        (
            "kill",
            "",
            "status 137: SIGKILL, as the system does where memory ends; JOBS=1 needs the least",
        ),
    ],
)
def test_the_first_that_fails_is_the_last_and_says_why(how, line, status, tmp_path):
    done = carried_out(tmp_path, "one", how, "three")
    assert done.returncode == int(status.split(":")[0].removeprefix("status "))
    assert sorted(path.name for path in (tmp_path / "study").iterdir()) == ["0", "logs"]
    assert line.format(out=tmp_path / "study/1") in done.stderr.splitlines() + [""]
    assert f"failed: measure 1 ({status})" in done.stderr


@pytest.mark.parametrize(
    "script, status, line",
    [
        ("import pathlib, sys\npathlib.Path(sys.argv[1]).write_text('made')\n", 0, ""),
        ("import nothing_of_this_name\n", 1, "No module named 'nothing_of_this_name'"),
        ("if :\n", 1, "SyntaxError: invalid syntax"),
    ],
    ids=["no main guard", "a missing import", "wrong syntax"],
)
def test_a_script_is_run_once_in_its_own_fork_and_its_errors_are_its_own(
    script, status, line, tmp_path
):
    done = carried_out(tmp_path, "", "", script=script)
    assert done.returncode == status and line in done.stderr
    failed = "failed: measure 0 (status 1)" in done.stderr
    made = [path.name for path in (tmp_path / "study").iterdir() if path.name != "logs"]
    assert failed == bool(status) and sorted(made) == ([] if status else ["0", "1"])


def test_words_are_taken_apart_by_their_number():
    words = ["3", "a", "measure a", "python", "-m", "x", "4", "b", "measure b", *"wxyz"]
    assert list(together.taken_apart(words)) == [
        ("a", "measure a", ["python", "-m", "x"]),
        ("b", "measure b", list("wxyz")),
    ]


def test_recipes_of_a_stage_share_a_process_where_they_are_told_to(tmp_path):
    def lines(*arguments):
        asked = subprocess.run(
            ["make", "-n", "all", "PROFILE=smoke", f"A={tmp_path}/s", PYTHON, *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert asked.returncode == 0, asked.stderr
        return asked.stdout.splitlines()

    alone = lines("SEEDS=0-2")
    some = lines("SEEDS=0-2", "TOGETHER=2", "JOBS=1")
    assert lines("SEEDS=0-2", "TOGETHER=2", "JOBS=99")[:-1] == alone[:-1]  # none for each job
    shared = [line for line in some if " -m common.making.together " in line]
    scripts = [line.count(" -m ") - 1 for line in shared]
    assert set(scripts) == {2}  # in each
    by_itself = sum(" -m common.making.recipe " in line for line in some)
    assert 2 * len(shared) + by_itself == sum(" -m common.making.recipe " in x for x in alone)
    # Two packs, the check, the report; the last of three that are trained, of nine comparisons.
    assert by_itself == 9
    for arguments in ["GPUS=2"], ["LAUNCH=srun"]:
        elsewhere = lines("TOGETHER=2", *arguments)
        assert not any("together" in line for line in elsewhere)
    assert refused("TOGETHER=0", folder=tmp_path / "none") == (
        "TOGETHER=0: not a whole number of 1 or more"
    )
