"""What is being written: a hidden file beside its place, which one process at a time has.

The writer of `.NAME.part` holds the lock (flock) of `.NAME.lock.part` for as long as it lives: a
part whose lock is free is what a kill left. The lock is a file of its own because Windows' file
servers let nobody write in a file that is locked. On a file system without locks a part is named
after its writer, `.NAME@HOST@PROCESS.part`. Needs Python's standard library alone.
"""

import fcntl
import glob
import os
import platform
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

PATIENCE = 3  # seconds: what another process wrote may be finished, or its workers about to end


class NoLocks(Exception):
    """The file system has no locks."""


def files_in(folder: str | Path) -> Iterator[Path]:
    """Yields the files in a folder and below, by name; links to other folders are followed."""
    entered = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        entered.add(os.path.realpath(place))
        # A link may lead back to a folder above.
        folders[:] = [
            name for name in sorted(folders) if os.path.realpath(Path(place, name)) not in entered
        ]
        yield from (Path(place, name) for name in sorted(names))


def take(path: Path) -> tuple[Path, IO | None]:
    """(the part that becomes `path`, its lock) for this process alone, until it gives them back.

    SystemExit with one line where another process writes it. The lock is None where there are none.
    """
    part = path.with_name(f".{path.name}.part")
    ends = time.monotonic() + PATIENCE
    try:
        while not (held := lock(part)):
            if time.monotonic() > ends:
                raise SystemExit(_said(path, "another process"))
            time.sleep(0.1)
        return part, held
    except NoLocks:
        lock_of(part).unlink(missing_ok=True)  # made by asking
        return _take_by_name(path), None


def give_back(part: Path, held: IO | None):
    """Ends what `take` began; the part has its own name by now, or is gone."""
    if held:
        if keeps(part, held):
            lock_of(part).unlink()
        # Processes that began meanwhile have the file open too.
        fcntl.flock(held, fcntl.LOCK_UN)
        held.close()


def lock_of(part: Path) -> Path:
    """The file whose lock the writer of `part` holds."""
    return part.with_name(part.name.removesuffix(".part").removesuffix(".lock") + ".lock.part")


def _said(path: Path, who: str) -> str:
    return f"{path}: {who} is writing this file; wait for it, or name another"


def lock(part: Path) -> IO | None:
    """The lock of `part`; None if another process has it. NoLocks where there are none."""
    while True:
        held = open(lock_of(part), "ab")
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held.close()
            return None
        except OSError as error:
            held.close()
            raise NoLocks from error
        if keeps(part, held):
            return held
        held.close()  # meanwhile its writer has ended, and removed it


def keeps(part: Path, held: IO | None) -> bool:
    """Whether `part` is still this process's: nobody removed its lock."""
    try:
        return not held or os.path.samestat(os.stat(lock_of(part)), os.fstat(held.fileno()))
    except FileNotFoundError:
        return False


def _take_by_name(path: Path) -> Path:
    """As `take`, where there are no locks: whoever writes says so in the name of its part."""
    for other in path.parent.glob(f".{glob.escape(path.name)}@*@*.part"):
        host, process = writer(other)
        if host == platform.node() and process != os.getpid():
            if alive(process):
                raise SystemExit(_said(path, f"process {process} on this machine"))
            with suppress(OSError):
                other.unlink()
    # A part of another machine is left alone: which of the two ends last is whole all the same.
    return path.with_name(f".{path.name}@{platform.node()}@{os.getpid()}.part")


def writer(part: Path) -> tuple[str, int]:
    """(machine, process) in the name of a part; ("", 0) if there is none."""
    words = part.stem.rsplit("@", 2)
    return (words[1], int(words[2])) if len(words) == 3 and words[2].isdecimal() else ("", 0)


def alive(process: int) -> bool:
    """Whether a process of this machine is alive."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # another user's
    return True


def abandoned(part: Path) -> bool:
    """Whether nobody writes `part` any more: what a kill left, which may be removed."""
    host, process = writer(part)
    if process:
        return host == platform.node() and not alive(process)
    try:
        held = lock(part)
    except NoLocks:
        return True  # of a time when there were some: who writes now has another name
    except OSError:
        return False  # not ours
    if held:
        give_back(part, held)
    return bool(held)
