"""What every script shares. As `python -m …` starts, before the imports that take seconds, Ctrl-C ends it as any program: without a traceback."""

import signal
import sys

if sys.argv[0] == "-m" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
