"""What a file holds, in short, whatever its date; and what each file of a study was made from.

The journal keeps, of every file that a recipe made, its own digest and those of what it was made
from. A file whose own digest, and all of those, are still the same is not made again, though a
copy, a clone or a clock has given it another date. Needs Python's standard library alone.
"""

import hashlib
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from common import origins
from common.making.journal import Journal

USER_BLOCK = 512  # bytes before the HDF5 part of our files: see common/files.py


def digest(path: str | Path) -> str:
    """The digest (16 characters) of what a file holds; "" where it is missing or no file.

    Our HDF5 files and weights carry theirs, which is compared with what they hold when they are
    read; of a pack it is that of its images, and of weights that of the tensors.
    """
    path = Path(path)
    if not path.is_file():
        return ""
    with suppress(OSError):
        with open(path, "rb") as file:
            words = file.read(USER_BLOCK).split(b"\0")[0].split()
        if words[:1] == [b"basins"] and len(words) >= 3:
            return words[-1].decode("ascii", "replace")[:16]
        if path.suffix == ".safetensors":
            return origins.metadata(path).get("sha256", "")[:16]
        return of_bytes(path.read_bytes())
    return ""


def of_bytes(content: bytes) -> str:
    """The digest of a file that is none of ours."""
    return hashlib.sha256(content).hexdigest()[:16]


@dataclass
class Made:
    """What the journal says of a file: its digest, and {path: digest} of what it was made from."""

    digest: str
    sources: dict[str, str]


class Record:
    """What each file of a study was made from, as its journal says."""

    def __init__(self, journal: Journal):
        self.folder = journal.folder
        self.made = {
            path: Made(own, event["from"])
            for event in journal.events()
            for path, own in event.get("made", {}).items()
        }
        self.digests: dict[str, str] = {}

    def of(self, target: str) -> Made | None:
        """What is known of a file; None where it is missing, or not the one that was made here."""
        made = self.made.get(inside(self.folder, target))
        return made if made and made.digest == self.digest(target) != "" else None

    def same(self, source: str, made: Made) -> bool | None:
        """Whether `source` still holds what a file was made from; None where that is not known."""
        known = made.sources.get(inside(self.folder, source))
        return None if known is None else known == self.digest(source)

    def digest(self, path: str) -> str:
        """As `digest`; each file is read once."""
        if path not in self.digests:
            self.digests[path] = digest(path)
        return self.digests[path]


def inside(folder: str, path: str) -> str:
    """A path of the study's folder as it is called there, so that the folder may be moved."""
    relative = os.path.relpath(path, folder)
    return path if relative.startswith("..") else relative


def sources(folder: str, target: str) -> dict[str, str]:
    """{path: digest} of what `target` is made from, by the rules that make has read."""
    with suppress(OSError), open(Path(folder, "graph.mk"), encoding="utf-8") as rules:
        for line in rules:
            if line.startswith(f"{target}: "):
                return digests(folder, line.removeprefix(f"{target}: ").split())
    return {}


def digests(folder: str, paths: Iterable[str]) -> dict[str, str]:
    """{path: digest} of those that are files."""
    found = {inside(folder, path): digest(path) for path in paths}
    return {path: value for path, value in found.items() if value}
