"""What every script shares. Imports point downwards: see docs/design.md.

Scripts start as `python -m train.adam` and import for seconds. This file runs before those imports,
and lets Ctrl-C end the process meanwhile, as it ends any program: without a traceback. Nor is there
one where the libraries do not fit into the memory that a limit leaves (ulimit -v, a job's).
"""

import os
import re
import resource
import signal
import subprocess
import sys

__version__ = "0.2.0"

OUT_OF_MEMORY = re.compile(
    "failed to map segment|(cannot|can't) allocate memory|bad.?alloc|can't start new thread", re.I
)
PLENTY = 16 << 30  # bytes of address space
PATIENCE = 30  # seconds
LIBRARIES = re.compile(r"train\.|eval\.|finetune\.|common\.images|common\.check")  # use them


def explain_memory(kind, error, trace):
    """An uncaught error: one line where it says that memory lacks, else as Python prints it."""
    found = OUT_OF_MEMORY.search(str(error))
    if not found and not isinstance(error, MemoryError):
        sys.__excepthook__(kind, error, trace)
        return
    print(_too_little(found[0] if found else kind.__name__), file=sys.stderr)


def _too_little(reason: str) -> str:
    return (
        f"{_script() or sys.argv[0]}: the memory that this process may have does not suffice "
        f"({reason}); raise its limit (ulimit -v, or the job's)"
    )


def _script() -> str:
    """The module that Python was started with; "" where it was a file."""
    return sys.orig_argv[sys.orig_argv.index("-m") + 1] if "-m" in sys.orig_argv else ""


def try_libraries():
    """SystemExit with one line where a limit on the address space leaves the libraries no room.

    They are tried in a process of their own: where torch's threads find none, it aborts.
    """
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit in (-1, resource.RLIM_INFINITY) or limit > PLENTY or not LIBRARIES.match(_script()):
        return
    libraries = "h5py, torchvision"
    if _script() == "eval.report":
        libraries = "h5py, scipy.stats, pandas, matplotlib.pyplot"
    command, found = [sys.executable, "-c", f"import {libraries}"], None
    try:
        tried = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        if not tried.returncode:
            return
        found = OUT_OF_MEMORY.search(tried.stderr)
    except subprocess.TimeoutExpired:
        pass  # a library waits for a thread for ever
    raise SystemExit(_too_little(found[0] if found else "its libraries do not start"))


if sys.argv[0] == "-m":
    try_libraries()
    sys.excepthook = explain_memory
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

# Before HDF5's library starts: our files are locked by common/parts.py, or need no lock.
os.environ["HDF5_USE_FILE_LOCKING"] = "FALSE"
