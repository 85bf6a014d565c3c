"""Where the libraries do not fit into the memory that is left, a script says so in a line."""

import os
import resource
import subprocess
import sys

import pytest
from conftest import ROOT

SAID = (
    "{}: the memory that this process may have does not suffice ({}); raise its limit (ulimit -v, "
    "or the job's)\n"
)


def started(script, megabytes=None, **environment):
    """`python -m SCRIPT --help`, with so much address space."""

    def limit():
        if megabytes:
            resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))

    return subprocess.run(
        [sys.executable, "-m", script, "--help"],
        cwd=ROOT,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=limit,
    )


@pytest.mark.parametrize("script", ["train.adam", "eval.battery"])
def test_too_little_address_space_for_torch_is_one_line(script):
    """400 MB: any torch has a library that is larger."""
    ended = started(script, megabytes=400)
    assert ended.returncode == 1 and not ended.stdout
    assert ended.stderr == SAID.format(script, "failed to map segment")


@pytest.mark.parametrize("megabytes", [250, 2930, 3125])
@pytest.mark.parametrize("script", ["train.adam", "eval.report"])
def test_where_libraries_abort_or_wait_it_is_one_line_too(script, megabytes):
    """Which limit suffices depends on the machine: it does, or one line says that it does not."""
    ended = started(script, megabytes)
    if ended.returncode == 0:
        assert ended.stdout.startswith("usage: ") and not ended.stderr
    else:
        start, end = SAID.format(script, "|").split("|")
        assert ended.returncode == 1 and ended.stderr.startswith(start)
        assert ended.stderr.endswith(end) and ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "raised, words",
    [
        ("MemoryError", "MemoryError"),
        ("OSError(12, 'Cannot allocate memory')", "Cannot allocate memory"),
        ("ImportError('x.so: failed to map segment from shared object')", "failed to map segment"),
        ('RuntimeError("can\'t start new thread")', "can't start new thread"),
    ],
)
@pytest.mark.parametrize("script", ["train.adam", "eval.report"])
def test_an_import_that_lacks_memory_is_one_line(script, raised, words, tmp_path):
    """h5py, which all scripts need, is made to fail."""
    (tmp_path / "h5py.py").write_text(f"raise {raised}\n")
    ended = started(script, PYTHONPATH=str(tmp_path))
    assert ended.returncode == 1 and not ended.stdout
    assert ended.stderr == SAID.format(script, words)


def test_an_import_that_fails_for_another_reason_is_a_traceback(tmp_path):
    (tmp_path / "h5py.py").write_text("raise ImportError('no such library')\n")
    ended = started("train.adam", PYTHONPATH=str(tmp_path))
    assert ended.returncode == 1 and ended.stderr.startswith("Traceback")
    assert ended.stderr.endswith("ImportError: no such library\n")
