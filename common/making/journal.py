"""Who is at work in a study's folder, what has run there, when, and for how long.

`flags/lock` names the make that is at work; each of its recipes holds the file's lock (flock) too,
so that a recipe which outlives its make keeps others out. `journal.jsonl` has a line an event:

    {"event": "make", "goals": ["all"], "to_make": [["pretrain", "train-adam", 2]], "time": …}
    {"event": "began", "stage": "train-adam", "kind": "pretrain", "target": …, "time": …}
    {"event": "ended", … "seconds": …, "made": {path: digest}, "from": {path: digest, …}}

Times are seconds since 1970. Needs Python's standard library alone.
"""

import fcntl
import json
import os
import platform
import re
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from common import parts

LOCK = "flags/lock"
JOURNAL = "journal.jsonl"
ANY_FLAGS = ("check", "report")  # kinds of recipes that take as long with other flags
PATIENCE = 3  # seconds that recipes of a make which was stopped may take to end


def lock(folder: str, goals: str, make: int):
    """Writes into `folder` that the process `make` is at work there.

    SystemExit with one line where another make is, or a recipe that outlived one.
    """
    path = Path(folder, LOCK)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+") as file:
        ends = time.monotonic() + PATIENCE
        while taken_by_another(file, make):
            if time.monotonic() > ends:
                file.seek(0)
                raise SystemExit(
                    f"{folder}: {file.read().strip() or 'another make'} is at work here; wait for "
                    "it, or stop it"
                )
            time.sleep(0.1)
        file.truncate(0)
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        file.write(f"make {goals} (process {make} on {platform.node()}, since {since})\n")


def taken_by_another(file, make: int) -> bool:
    """Whether the lock `file` is another's; if not, it is ours until the file is closed."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass  # a file system without locks
    file.seek(0)
    holder = re.search(r"\(process (\d+) on (.*), since ", file.read())
    if not holder or holder[2] != platform.node() or int(holder[1]) == make:
        return False
    if not is_make(int(holder[1])):
        return False
    with suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_UN)
    return True


def is_make(process: int) -> bool:
    """Whether a process is alive, and a make as far as the system says what it is."""
    if not parts.alive(process):
        return False
    try:
        return "make" in Path(f"/proc/{process}/comm").read_text()
    except OSError:
        return not Path("/proc/self").exists()


def share_lock(folder: str, make: int):
    """Opens the lock for a recipe of the process `make`, and for all that the recipe starts.

    It is held for as long as any of them lives. SystemExit where another make has taken the folder.
    """
    descriptor = os.open(Path(folder, LOCK), os.O_RDWR)
    os.set_inheritable(descriptor, True)
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    holder = os.pread(descriptor, 1000, 0).decode().strip()
    if f"(process {make} on {platform.node()}, " not in holder:
        raise SystemExit(f"{folder}: {holder} has taken this folder; stop one of the two")


@dataclass
class Journal:
    """The journal of one study."""

    folder: str

    def write(self, event: str, **fields) -> int:
        """Appends a line; returns the length of the journal up to its end, in bytes."""
        line = json.dumps({"event": event} | fields | {"time": round(time.time(), 3)})
        with open(Path(self.folder, JOURNAL), "ab", buffering=0) as file:
            file.write(f"{line}\n".encode())  # at once: other recipes append too
            return file.tell()

    def events(self, length: int | None = None) -> list[dict]:
        """The events, or those of the first `length` bytes. A damaged line counts for nothing."""
        try:
            text = Path(self.folder, JOURNAL).read_bytes()[:length]
        except FileNotFoundError:
            return []
        events = []
        for line in text.splitlines():
            with suppress(ValueError):
                events.append(json.loads(line))
        return events

    def seconds(
        self, events: list[dict], expected: dict[str, float]
    ) -> dict[tuple[str, str], float]:
        """{(kind, stage): mean seconds of a recipe}, since the stage's flags last changed.

        The stage "" of a kind is all of its stages together; before one has finished, what is
        `expected` of the kind.
        """
        measured = {}
        taken = {(kind, ""): [number] for kind, number in expected.items()}
        for event in events:
            if event["event"] == "ended" and event["time"] > self._counts_from(event):
                for stage in event["stage"], "":
                    measured.setdefault((event["kind"], stage), []).append(event["seconds"])
        return {key: mean(values) for key, values in (taken | measured).items()}

    def _counts_from(self, event: dict) -> float:
        """When the flags of a recipe last changed, where its time depends on them."""
        flags = Path(self.folder, "flags", event["stage"])
        if event["kind"] in ANY_FLAGS or not flags.exists():
            return 0.0
        return flags.stat().st_mtime


@dataclass
class Remaining:
    """How long a number of recipes will take."""

    seconds: float
    unknown: int  # of these recipes no other of their kind has finished yet

    def __str__(self):
        if self.unknown and self.seconds < 1:
            return ""
        least = "at least" if self.unknown else "about"
        return f"{least} {in_words(self.seconds)} left"


def remaining(
    to_make: Counter, seconds: dict[tuple[str, str], float], jobs: int, spent: float = 0.0
) -> Remaining:
    """How long recipes {(kind, stage): number} take, `jobs` at once, less seconds `spent` in all.

    No recipe is divided: what is left takes as long as its longest, at least.
    """
    total, longest, unknown = -spent, 0.0, 0
    for (kind, stage), number in to_make.items():
        each = seconds.get((kind, stage), seconds.get((kind, "")))
        if each is None:
            unknown += number
        elif number:
            total += each * number
            longest = max(longest, each - spent)
    return Remaining(max(total / max(jobs, 1), longest, 0.0), unknown)


def since_make(events: Iterable[dict]) -> list[dict]:
    """The events of the make that began last, its own line first."""
    result = []
    for event in events:
        result = [event] if event["event"] == "make" else [*result, event] if result else []
    return result


def in_words(seconds: float) -> str:
    """A time as people say it: 40 s, 3 min, 2.5 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"
