"""Files that are whole or absent, and that say where their numbers come from.

Every HDF5 file of ours has a 512-byte user block with the size and the sha256 of the rest, checked before libhdf5 sees a byte:
any HDF5 tool opens the file, and a truncated or flipped one is named instead of averaged.
"""

import hashlib
import json
import multiprocessing
import os
import re
import signal
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from threading import Thread
from types import GeneratorType

import h5py
import numpy as np

USER_BLOCK = 512
PIECE = 1 << 26  # bytes that one thread hashes at a time

unfinished = set()  # parts that this process is writing


def replace(part, path):
    """Gives the finished file `part` its name `path`: on disk first, then visible, all at once."""
    with open(part, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(part, path)
    with suppress(
        OSError
    ):  # some network file systems know no fsync of a folder; the file is there
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


@contextmanager
def whole(path):
    """Where to write what becomes `path` when the block ends well, and vanishes when it does not.

    SystemExit with one line where the disk is full, the quota used up, or the folder not ours to write.
    """
    part = path.with_name(
        f".{path.name}.part"
    )  # one name: what a kill leaves is written over by the next try, or swept by make
    unfinished.add(part)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        replace(part, path)
    except (OSError, RuntimeError) as error:  # libhdf5 says it in words
        number = getattr(error, "errno", None) or int(
            (re.findall(r"errno = (\d+)", str(error)) or [0])[0]
        )
        if not number:
            raise
        raise SystemExit(
            f"{path}: cannot be written ({os.strerror(number)}); what was finished before is kept: mend that and run make again"
        ) from None
    finally:
        with suppress(OSError):
            part.unlink()
        unfinished.discard(part)


@contextmanager
def write(path):
    """An open h5py.File that becomes `path` when the block ends well, and vanishes when it does not; SystemExit as in `whole`."""
    with whole(Path(path)) as part:
        with h5py.File(part, "w", userblock_size=USER_BLOCK) as file:
            yield file
        size, digest = _digest(part)
        with open(part, "rb+") as file:
            file.write(f"basins {size} {digest}\n".encode().ljust(USER_BLOCK, b"\0"))


def workers(count):
    """A pool of processes that end with this one, however it ends."""
    return ProcessPoolExecutor(count, initializer=_follow)


def _follow():
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # what is meant for all is the first one's to answer
        signal.signal(number, signal.SIG_IGN)
    Thread(
        target=lambda: (multiprocessing.parent_process().join(), os._exit(1)), daemon=True
    ).start()


def _digest(path):
    """Size in bytes and sha256 of all that follows the user block; beyond one PIECE, the sha256 of the pieces' own, taken on all cores at once."""
    size = os.path.getsize(path) - USER_BLOCK

    def piece(start):
        with open(path, "rb") as file:
            file.seek(start)
            digest, left = hashlib.sha256(), PIECE
            while left and (data := file.read(min(left, 1 << 20))):
                digest.update(data)
                left -= len(data)
            return digest.hexdigest()

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        pieces = list(pool.map(piece, range(USER_BLOCK, USER_BLOCK + max(size, 1), PIECE)))
    return size, pieces[0] if len(pieces) == 1 else sha256(*pieces)


def read(path, check=True):
    """Opens one of our HDF5 files for reading; SystemExit with one line if it is missing, foreign or damaged.

    `check=False` skips the checksum of the whole file (packs after their first use), never that of its size.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            words = file.read(USER_BLOCK).rstrip(b"\0").decode("ascii", "replace").split()
        if len(words) != 3 or words[0] != "basins":
            raise SystemExit(f"{path}: not a file that basins made; remove it and run make again")
        whole = str(path.stat().st_size - USER_BLOCK) == words[1]
        if not whole or check and _digest(path)[1] != words[2]:
            raise SystemExit(
                f"{path}: damaged ({'a byte changed' if whole else 'wrong size'}); remove it and run make again"
            )
        return h5py.File(path, "r")
    except OSError as error:
        raise SystemExit(f"{path}: {error.strerror or error}") from None


def scale(group, name, values, units):
    """A dimension scale (one axis): `values` (n,) under `name` with its units."""
    axis = group.create_dataset(name, data=np.asarray(values))
    axis.make_scale(name)
    axis.attrs["units"] = units
    return axis


def array(group, name, values, units, *axes):
    """A dataset whose leading axes are the given dimension scales (None: an axis without one)."""
    data = group.create_dataset(name, data=np.asarray(values))
    data.attrs["units"] = units
    for dimension, axis in zip(data.dims, axes):
        if axis is not None:
            dimension.attach_scale(axis)
    return data


def sha256(*parts):
    """Hex digest over strings, bytes and JSON-able values, in order; a generator stands for what it yields, one in memory at a time."""
    digest = hashlib.sha256()
    for part in chain.from_iterable(
        part if isinstance(part, GeneratorType) else [part] for part in parts
    ):
        data = (
            part
            if isinstance(part, bytes)
            else json.dumps(part, sort_keys=True, default=str).encode()
        )
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()
