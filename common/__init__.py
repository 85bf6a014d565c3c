"""What every script shares. Imports point downwards: see docs/design.md.

Scripts start as `python -m train.adam` and import for seconds. This file runs before those imports,
and lets Ctrl-C end the process meanwhile, as it ends any program: without a traceback. Nor is there
one where the libraries do not fit into the memory that a limit leaves (ulimit -v, a job's).
"""

import os
import re
import signal
import sys

__version__ = "0.2.0"

OUT_OF_MEMORY = re.compile(
    "failed to map segment|(cannot|can't) allocate memory|bad.?alloc|can't start new thread", re.I
)


def explain_memory(kind, error, trace):
    """An uncaught error: one line where it says that memory lacks, else as Python prints it."""
    found = OUT_OF_MEMORY.search(str(error))
    if not found and not isinstance(error, MemoryError):
        sys.__excepthook__(kind, error, trace)
        return
    script = sys.orig_argv[sys.orig_argv.index("-m") + 1] if "-m" in sys.orig_argv else sys.argv[0]
    print(
        f"{script}: the memory that this process may have does not suffice "
        f"({found[0] if found else kind.__name__}); raise its limit (ulimit -v, or the job's)",
        file=sys.stderr,
    )


if sys.argv[0] == "-m":
    sys.excepthook = explain_memory
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

# Before HDF5's library starts: our files are locked by common/parts.py, or need no lock.
os.environ["HDF5_USE_FILE_LOCKING"] = "FALSE"
