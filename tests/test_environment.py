"""What a shell, a notebook or a cluster hands on to a script: what it may change, and what not."""

import os
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

from common import provenance


@pytest.fixture
def commit():
    """provenance.commit, asked anew."""
    provenance.commit.cache_clear()
    yield provenance.commit
    provenance.commit.cache_clear()


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder that looks like a checkout, which provenance takes for this project's."""
    (tmp_path / ".git").mkdir()
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    return tmp_path


@pytest.mark.parametrize("path", ["nowhere", "one that may not be run", "one that fails"])
def test_without_git_the_commit_is_unknown(path, commit, checkout, tmp_path, monkeypatch):
    programs = tmp_path / "bin"
    programs.mkdir()
    if path != "nowhere":
        (programs / "git").write_text("#!/bin/sh\nexit 128\n")
        (programs / "git").chmod(0o755 if path == "one that fails" else 0o644)
    monkeypatch.setenv("PATH", str(programs))
    assert commit() == "unknown"


@pytest.mark.skipif(not shutil.which("git"), reason="no git here")
def test_a_hook_s_variables_do_not_make_another_checkout_s_commit_ours(
    commit, checkout, tmp_path, monkeypatch
):
    """git sets GIT_DIR for its hooks; `git -C` follows it into another repository."""
    other = tmp_path / "other"
    (tmp_path / ".git").rmdir()
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    made = {}
    for folder in tmp_path, other:
        folder.mkdir(exist_ok=True)
        for words in ["init", "-q"], [*who, "commit", "-q", "--allow-empty", "-m", str(folder)]:
            subprocess.run(["git", *words], cwd=folder, check=True)
        head = ["git", "rev-parse", "--short=12", "HEAD"]
        made[folder] = subprocess.run(head, cwd=folder, capture_output=True, text=True).stdout
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    assert commit().removesuffix("-dirty") == made[tmp_path].strip() != made[other].strip()


@pytest.mark.slow
def test_a_script_without_git_says_unknown(tmp_path):
    """The whole command, with a PATH that has nothing on it."""
    environment = {**os.environ, "PATH": str(tmp_path)}
    code = "from common import provenance; print(provenance.commit())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "") and done.stdout == "unknown\n"


DRAW = """
import hashlib
from eval.report import drawing
from eval.report.panels import Panel, Point
from eval.report.styles import styles
style = styles(["adam"])
panel = Panel("−0.5", points=[Point(1.0, 1.0, style["adam"])], x_label="x_1 $", shown="50 %")
drawn = drawing.picture({"": [panel]}, style)
print(hashlib.sha256(drawn.svg.encode() + drawn.pdf).hexdigest())
"""


def python(code, cwd=ROOT, **environment):
    """What a Python prints of `code`, in an environment of which these are changed."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


@pytest.mark.slow
def test_a_notebook_s_backend_and_a_person_s_matplotlibrc_leave_the_figures_as_they_are(tmp_path):
    plain = python(DRAW)
    for backend in "module://matplotlib_inline.backend_inline", "no such backend", "":
        assert python(DRAW, MPLBACKEND=backend) == plain
    own = tmp_path / "own"
    own.mkdir()
    (own / "matplotlibrc").write_text("text.usetex: True\nfont.size: 20\nlines.linewidth: 9\n")
    assert python(DRAW, MATPLOTLIBRC=str(own)) == plain
    assert python(DRAW, MPLCONFIGDIR=str(own)) == plain
    assert python(DRAW, cwd=own) == plain


PRINT = """
import os
from common import cli
cli.Parser("")
print("\\u22120.5 \\u2013 \\xe9", os.fsdecode(b"\\xe9.png"))
"""


@pytest.mark.parametrize(
    "environment, printed",
    [
        ({"PYTHONIOENCODING": "utf-8"}, "−0.5 – é ".encode() + b"\xe9.png"),
        ({"PYTHONIOENCODING": "ascii"}, rb"\u22120.5 \u2013 \xe9 " + b"\xe9.png"),
        ({"PYTHONIOENCODING": "latin-1"}, rb"\u22120.5 \u2013 " + b"\xe9 \xe9.png"),
        (
            {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": ""},
            rb"\u22120.5 \u2013 \xe9 " + b"\xe9.png",
        ),
    ],
    ids=["utf-8", "ascii", "latin-1", "C"],
)
def test_printing_never_fails_and_keeps_signs_and_the_bytes_of_names(environment, printed):
    assert python(PRINT, **environment) == printed + b"\n"


def test_make_finds_its_own_modules_where_pythonsafepath_is_set():
    """In the $(shell) that writes the graph, and in recipes."""
    rule = "setup: ; @$(interpreter) -c 'import common.graph, eval, train; print(1)'"
    for words in ["-n", "PROFILE=smoke", "all"], [f"--eval={rule}", "setup"]:
        done = subprocess.run(
            ["make", "-s", *words, f"PYTHON={sys.executable}"],
            cwd=ROOT,
            env={**os.environ, "PYTHONSAFEPATH": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0 and done.stdout, done.stderr
