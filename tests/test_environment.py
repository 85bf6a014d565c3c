"""What a shell, a notebook or a cluster hands on to a script: what it may change, and what not."""

import os
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
            if subprocess.run(["git", *words], cwd=folder, capture_output=True).returncode:
                pytest.skip("no git here that can commit")
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
