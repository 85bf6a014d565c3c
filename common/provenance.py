"""Where a number comes from: the command, settings, code, commit and versions that every result carries."""

import functools
import json
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from common import files

ROOT = Path(__file__).resolve().parents[1]


def stamp(settings, seed, fingerprint, device):
    """The attributes that trace a group's numbers: command, settings (JSON), seed, code, commit, versions, device, fingerprint."""
    return {
        "command": command(),
        "settings": json.dumps(settings, sort_keys=True, default=str),
        "seed": seed,
        "code": code(),
        "commit": commit(),
        "versions": versions(),
        "device": device,
        "fingerprint": fingerprint,
    }


def command():
    """The command line of this process, as one would type it."""
    return shlex.join(["python", *sys.orig_argv[1:]])


def source(*paths):
    """Hex digest of source files, given relative to the project's root or absolute."""
    return files.sha256(*[(ROOT / path).read_bytes() for path in paths])


@functools.cache
def code():
    """The version of the shared code: a digest of common/."""
    return source(*sorted((ROOT / "common").rglob("*.py")))[:12]


@functools.cache
def commit():
    """The git commit ("-dirty" where files differ from it or are not in it), or "unknown" outside a checkout."""
    asked = (
        [
            subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True)
            for words in (["rev-parse", "--short=12", "HEAD"], ["status", "--porcelain"])
        ]
        if (ROOT / ".git").exists()
        else []
    )
    if not asked or any(answer.returncode for answer in asked):
        return "unknown"
    return asked[0].stdout.strip() + "-dirty" * bool(asked[1].stdout)


@functools.cache
def versions():
    """JSON: Python and the packages whose code makes numbers."""
    names = "torch", "torchvision", "numpy", "h5py", "pillow"
    return json.dumps(
        {"python": sys.version.split()[0]} | {name: metadata.version(name) for name in names}
    )
