"""What every script shares. Imports point downwards: see docs/design.md.

Scripts start as `python -m train.adam` and import for seconds. This file runs before those imports,
and lets Ctrl-C end the process meanwhile, as it ends any program: without a traceback.
"""

import os
import signal
import sys

__version__ = "0.2.0"

if sys.argv[0] == "-m" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

# Before HDF5's library starts: our files are locked by common/parts.py, or need no lock.
os.environ["HDF5_USE_FILE_LOCKING"] = "FALSE"
