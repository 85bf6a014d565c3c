"""Files that are whole or absent, and that can tell when they were damaged.

Every HDF5 file of ours begins with a user block of 512 bytes: the size and the sha256 of the rest,
checked before libhdf5 sees a byte. Any HDF5 tool opens the file, and a truncated one, or one with a
flipped bit, is named instead of averaged.
"""

import hashlib
import json
import multiprocessing
import os
import re
import signal
import stat
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from types import GeneratorType

import h5py
import numpy as np

from common import parts

USER_BLOCK = 512
PIECE = 1 << 26  # bytes that one thread hashes at a time
READ_SIZE = 1 << 20  # bytes that a thread has in memory
# Where the superblock (version 0) says that a program has the file open for writing.
OPEN_MARK = slice(20, 24)
OPENED = bytes([1, 0, 0, 0]), bytes([5, 0, 0, 0])  # for writing; and with readers (SWMR)
NOT_REGULAR = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
UNITS = {  # of the quantities that results hold
    "accuracy": "fraction",
    "accuracy_relative": "fraction of clean",
    "correct_by_image": "correct answers, sum over repeats",
    "loss": "nats per image",
    "loss_by_image": "nats, mean over repeats",
    "loss_change": "nats per image",
    "lr": "1",
    "seconds": "s",
}

unfinished: set[Path] = set()  # what this process has begun to write


def replace(part: Path, path: Path):
    """Gives the finished file `part` its name `path`: on disk first, then visible, all at once."""
    with open(part, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(part, path)
    with suppress(OSError):  # some network file systems know no fsync of a folder
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Where to write what becomes `path` when the block ends well, and vanishes when it does not.

    SystemExit with one line where the disk is full, the quota used up, the folder not ours to
    write, or another process writes the same file; its part is left alone.
    """
    part = held = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part, held = parts.take(path)
        unfinished.update([part, parts.lock_of(part)])
        yield part
        if not parts.keeps(part, held):
            raise SystemExit(
                f"{path}: cannot be written (its part was removed meanwhile, or is another "
                "process's); run make again"
            )
        replace(part, path)
    except (OSError, RuntimeError) as error:
        number = _errno(error)
        if not number:
            raise
        raise SystemExit(
            f"{path}: cannot be written ({os.strerror(number)}); what was finished before is kept: "
            "mend that and run make again"
        ) from None
    finally:
        if part:
            with suppress(OSError):
                if parts.keeps(part, held):
                    part.unlink(missing_ok=True)
                parts.give_back(part, held)
            unfinished.difference_update([part, parts.lock_of(part)])


def _errno(error: Exception) -> int:
    """The operating system's number of an error, or 0. libhdf5 has it only in its message."""
    if getattr(error, "errno", None):
        return error.errno
    number = re.search(r"errno = (\d+)", str(error))
    return int(number[1]) if number else 0


@contextmanager
def write(path: str | Path) -> Iterator[h5py.File]:
    """An open HDF5 file that becomes `path` when the block ends well, as in `atomic`.

    Its attribute `contents`, if it has one, is the digest of what it holds, whoever made it: it
    stands in the user block too, for make.
    """
    with atomic(Path(path)) as part:
        with h5py.File(part, "w", userblock_size=USER_BLOCK, locking=False) as file:
            yield file
            contents = file.attrs.get("contents", "")
        size, digest = _size_and_digest(part)
        with open(part, "rb+") as file:
            file.write(f"basins {size} {digest} {contents}\n".encode().ljust(USER_BLOCK, b"\0"))


def read(path: str | Path, check: bool = True) -> h5py.File:
    """Opens one of our HDF5 files; SystemExit with one line if it is missing, foreign or damaged.

    `check=False` skips the checksum, which reads the whole file, never the comparison of sizes.
    Where nothing but HDF5's mark of an open file was added, the file is read, with a line.
    """
    path = Path(path)
    try:
        demand_regular(path)
        with open(path, "rb") as file:
            header = file.read(USER_BLOCK).rstrip(b"\0").decode("ascii", "replace").split()
            superblock = file.read(24)
        if len(header) not in (3, 4) or header[0] != "basins":
            raise SystemExit(
                f"{path}: not a file that basins made; move it away and run make again"
            )
        size, digest = header[1:3]
        marked = superblock[OPEN_MARK] in OPENED
        changed = str(path.stat().st_size - USER_BLOCK) != size and "wrong size"
        if check and not changed and _size_and_digest(path, marked)[1] != digest:
            changed = "a byte changed"
        if changed and marked:
            raise SystemExit(
                f"{path}: changed by another program that has it open for writing, or had when it "
                "was killed; close it there, and put back a copy of the file if you have one"
            )
        if changed:
            raise SystemExit(f"{path}: damaged ({changed}); move it away and run make again")
        if marked:
            print(
                f"{path}: whole, but marked as open for writing in another program; close it "
                'there; if it was killed, h5py.File(path, "r+").close() clears the mark',
                file=sys.stderr,
                flush=True,
            )
        return _open(path, " ".join(header[3:]))
    except OSError as error:
        raise SystemExit(f"{path}: {error.strerror or error}") from None


def demand_regular(path: Path):
    """SystemExit with one line where `path` is a folder, a pipe, a socket or a device.

    Whoever opens a pipe waits for its writer, perhaps for ever. OSError where it is missing.
    """
    kind = stat.S_IFMT(os.stat(path).st_mode)
    if kind != stat.S_IFREG:
        raise SystemExit(
            f"{path}: not a regular file, but {NOT_REGULAR.get(kind, 'a device')}; move it away "
            "and run make again"
        )


def _open(path: Path, contents: str) -> h5py.File:
    """Opens a file whose `contents` the user block names as its attribute does."""
    # No locks: our files never change, and some network file systems have none.
    file = h5py.File(path, "r", locking=False)
    if file.attrs.get("contents", "") != contents:
        file.close()
        raise SystemExit(f"{path}: damaged (a byte changed); move it away and run make again")
    return file


def read_pack(path: str | Path, check: bool = True) -> h5py.File:
    """Opens a pack of images, as `read` does; SystemExit with one line where it is none."""
    file = read(path, check)
    lacking = [name for name in ("images", "labels", "split") if name not in file]
    lacking += [name for name in ("classes", "image_size", "fingerprint") if name not in file.attrs]
    if file.attrs.get("kind") != "pack" or lacking:
        file.close()
        why = f" (it lacks {', '.join(lacking)})" if lacking else ""
        raise SystemExit(
            f"{path}: not a pack of images{why}; make one with python -m common.images.prepare"
        )
    return file


def _size_and_digest(path: Path, marked: bool = False) -> tuple[int, str]:
    """Size in bytes and hex sha256 of all that follows the user block.

    `marked`: as if OPEN_MARK were clear.
    A file of several PIECEs is hashed on all cores at once: its digest is that of the pieces'.
    """
    size = os.path.getsize(path) - USER_BLOCK
    starts = range(USER_BLOCK, USER_BLOCK + max(size, 1), PIECE)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        digests = list(pool.map(lambda start: _digest_of_piece(path, start, marked), starts))
    return size, digests[0] if len(digests) == 1 else sha256(*digests)


def _digest_of_piece(path: Path, start: int, marked: bool) -> str:
    """Hex sha256 of the PIECE bytes from `start` on, or of what there is of them."""
    digest, remaining = hashlib.sha256(), PIECE
    with open(path, "rb") as file:
        file.seek(start)
        while remaining and (data := file.read(min(remaining, READ_SIZE))):
            if marked and start == USER_BLOCK and remaining == PIECE:
                data = data[: OPEN_MARK.start] + bytes(4) + data[OPEN_MARK.stop :]
            digest.update(data)
            remaining -= len(data)
    return digest.hexdigest()


def sha256(*values) -> str:
    """Hex digest over bytes and JSON-able values, in order; paths and dtypes count as their text.

    A generator stands for the values that it yields, of which one is in memory at a time.
    """
    digest = hashlib.sha256()

    def update(value):
        if not isinstance(value, bytes):
            value = json.dumps(value, sort_keys=True, default=str).encode()
        digest.update(len(value).to_bytes(8, "big"))
        digest.update(value)

    for value in values:
        if isinstance(value, GeneratorType):
            for item in value:
                update(item)
        else:
            update(value)
    return digest.hexdigest()


def units(path: str) -> str:
    """The units of a dataset, whose path ends with a quantity; "1" for any that is not in UNITS."""
    return UNITS.get(path.split("/")[-1], "1")


def scale(group: h5py.Group, name: str, values, units: str) -> h5py.Dataset:
    """A dimension scale (one axis): `values` (n,) under `name` with its units."""
    axis = group.create_dataset(name, data=np.asarray(values))
    axis.make_scale(name)
    axis.attrs["units"] = units
    return axis


def array(group: h5py.Group, name: str, values, units: str, *axes) -> h5py.Dataset:
    """A dataset whose leading axes are the given dimension scales (None: an axis without one)."""
    data = group.create_dataset(name, data=np.asarray(values))
    data.attrs["units"] = units
    for dimension, axis in zip(data.dims, axes):
        if axis is not None:
            dimension.attach_scale(axis)
    return data


def worker_pool(count: int) -> ProcessPoolExecutor:
    """A pool of processes that end with this one, however it ends."""
    return ProcessPoolExecutor(count, initializer=_end_with_parent)


def _end_with_parent():
    """For a worker: signals are the parent's to answer, and its death is the worker's."""
    for number in signal.SIGINT, signal.SIGTERM:
        signal.signal(number, signal.SIG_IGN)

    def wait():
        multiprocessing.parent_process().join()
        os._exit(1)

    Thread(target=wait, daemon=True).start()
