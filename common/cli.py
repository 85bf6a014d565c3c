"""Command-line flags: one parser shape for every script, types that refuse what makes no sense, and how a script ends.

A mistake of the user ends in `raise SystemExit("FILE: what is wrong; what to do")`: one line, status 1. A traceback is for bugs.
"""

import argparse
import math
import os
import signal
import sys
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress

from common import files


class Parser(argparse.ArgumentParser):
    """argparse with defaults shown by --help and errors of one line (status 2). From here on SIGINT and SIGTERM end the process at once.

    `alone`: a script for one process; under torchrun all but rank 0 have nothing to do.
    """

    def __init__(self, doc, alone=False):
        if alone and "MASTER_ADDR" in os.environ and os.environ.get("RANK", "0") != "0":
            raise SystemExit(0)
        super().__init__(description=doc, formatter_class=_Formatter, allow_abbrev=False)
        sys.excepthook = _explain
        for number in signal.SIGINT, signal.SIGTERM:
            if signal.getsignal(number) != signal.SIG_IGN:  # as under nohup
                signal.signal(number, _stop)

    def error(self, message):
        self.exit(2, f"{self.prog}: {message} (--help lists the flags)\n")


def _stop(number, frame):
    """Leaves between two steps, status 130 or 143, and saves nothing: the last checkpoint is the save, as for a crash."""
    for part in files.unfinished:
        with suppress(OSError):
            part.unlink()
    os.write(
        2,
        f"{signal.Signals(number).name}: stopped; the same command goes on after what is finished\n".encode(),
    )
    os._exit(128 + number)


def _explain(kind, error, trace):
    """What the machine refuses is one line, like a mistake."""
    if isinstance(error, OSError) and error.errno:
        print(f"{error.filename or sys.argv[0]}: {os.strerror(error.errno)}", file=sys.stderr)
    elif isinstance(error, BrokenProcessPool):
        print(
            "a worker process was killed, perhaps for its memory; give fewer --workers",
            file=sys.stderr,
        )
    else:
        sys.__excepthook__(kind, error, trace)


class _Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows defaults, keeps the line breaks of the module's docstring."""


def _number(kind, low, high, words):
    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not {words}") from None
        if not (low <= value <= high) or not math.isfinite(value):
            raise argparse.ArgumentTypeError(f"{text!r} is not {words}")
        return value

    return parse


count = _number(int, 1, 10**9, "a whole number of 1 or more")
whole = _number(int, 0, 10**9, "a whole number of 0 or more")
rate = _number(float, 1e-12, 1e6, "a number above 0")
amount = _number(float, 0, 1e9, "a finite number of 0 or more")
fraction = _number(float, 0, 1, "a number from 0 to 1")
severity = _number(float, 0, 5, "a number from 0 to 5")
points = _number(int, 2, 10**6, "a whole number of 2 or more")
few = _number(int, 1, 255, "a whole number from 1 to 255")
side = _number(int, 1, 4096, "a whole number from 1 to 4096")


def levels(kind):
    """A comma-separated list of `kind`, ascending."""

    def parse(text):
        values = [kind(word) for word in text.split(",")]
        if any(low >= high for low, high in zip(values, values[1:])):
            raise argparse.ArgumentTypeError(f"{text!r} does not ascend")
        return values

    return parse
