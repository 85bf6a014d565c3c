"""Where a number comes from: the command, settings, code, commit and versions that every result
carries.
"""

import functools
import json
import os
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import common
from common import files

ROOT = Path(__file__).resolve().parents[1]
# Whose code makes numbers.
PACKAGES = "torch", "torchvision", "numpy", "h5py", "pillow", "scikit-learn"

GIT_OF_ANOTHER_CHECKOUT = "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR"


def stamp(settings: dict, seed: int, fingerprint: str, device: str) -> dict:
    """The attributes that trace a group's numbers. `device` is a line of devices.describe."""
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


def command() -> str:
    """The command line of this process, as one would type it."""
    return shlex.join(["python", *sys.orig_argv[1:]])


def source(*paths: str | Path) -> str:
    """Hex digest of source files, given relative to the project's root or absolute.

    A folder stands for all Python files in it.
    """
    contents = []
    for path in paths:
        path = ROOT / path
        members = sorted(path.rglob("*.py")) if path.is_dir() else [path]
        contents += [member.read_bytes() for member in members]
    return files.sha256(*contents)


@functools.cache
def code() -> str:
    """The version of the shared code: a digest of common/, but for what decides when to run it."""
    shared = set((ROOT / "common").rglob("*.py")) - set((ROOT / "common/making").rglob("*.py"))
    return source(*sorted(shared - {ROOT / "common/graph.py"}))[:12]


@functools.cache
def commit() -> str:
    """The git commit; "-dirty" where files differ from it; "unknown" outside a checkout, or without
    git.
    """
    if not (ROOT / ".git").exists():
        return "unknown"
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        status = _git("status", "--porcelain")
    except (OSError, subprocess.CalledProcessError):  # no git here, or none that reads this folder
        return "unknown"
    return head.decode().strip() + ("-dirty" if status else "")


def _git(*arguments: str) -> bytes:
    """What git prints of this checkout, whichever one its variables name, which a hook sets."""
    environment = {
        name: value for name, value in os.environ.items() if name not in GIT_OF_ANOTHER_CHECKOUT
    }
    command = ["git", "-C", ROOT, *arguments]
    return subprocess.run(command, check=True, capture_output=True, env=environment).stdout


@functools.cache
def versions() -> str:
    """JSON: basins, Python, and the packages whose code makes numbers."""
    ours = {"basins": common.__version__, "python": sys.version.split()[0]}
    return json.dumps(ours | {name: metadata.version(name) for name in PACKAGES})
