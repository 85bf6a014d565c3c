"""Command-line flags: one parser for every script, types that refuse what makes no sense, and how
a script ends.

A mistake of the user ends in `raise SystemExit("FILE: what is wrong; what to do")`: one line and
status 1. A traceback is for bugs.
"""

import argparse
import codecs
import io
import math
import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path

import common
from common import files, settings

# What is said beside a setting, never by it: where a run reads and writes, and which of many it is.
BESIDE_A_SETTING = {
    "--data",
    "--device",
    "--help",
    "--minimum",
    "--out",
    "--runs",
    "--seed",
    "--setting",
}


class Parser(argparse.ArgumentParser):
    """argparse with the defaults shown by --help, and errors of one line (status 2).

    Making one starts a script: from here on SIGINT and SIGTERM end the process at once, and
    printing never fails, whatever characters a locale or PYTHONIOENCODING leaves it. A script
    runs whole in one process; where torchrun started several, all but rank 0 end here with status
    0. `every_rank` is for pretraining, which divides its batches between them.
    """

    def __init__(self, doc: str, every_rank: bool = False):
        if not every_rank and "MASTER_ADDR" in os.environ and os.environ.get("RANK", "0") != "0":
            raise SystemExit(0)
        for stream in sys.stdout, sys.stderr:
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="printable")
        super().__init__(description=doc, formatter_class=_Formatter, allow_abbrev=False)
        self.blamed = self.prog  # whose flags an error is about
        sys.excepthook = _explain
        for number in signal.SIGINT, signal.SIGTERM:
            if signal.getsignal(number) != signal.SIG_IGN:  # ignored: started by nohup
                signal.signal(number, _stop)

    def parse_args(self, args=None, namespace=None):
        """As argparse does; but the flags that --setting stands for come last, and so they win."""
        given = sys.argv[1:] if args is None else list(args)
        parsed = super().parse_args(given, namespace)
        word = getattr(parsed, "setting", None)
        if word is None:
            return parsed
        flags = settings.flags(word)
        self.blamed = word  # all else was in order
        for flag in flags:
            name = flag.partition("=")[0]
            if name in BESIDE_A_SETTING:
                self.error(f"a setting cannot set {name}; give it as a flag of its own")
        parsed, unknown = self.parse_known_args([*given, *flags], namespace)
        if unknown:
            name = unknown[0].partition("=")[0]
            self.error(f"{settings.method(word)} has no flag {name}")
        return parsed

    def parse_known_args(self, args=None, namespace=None):
        """As argparse does; and before hours of work, --out FILE is no folder."""
        parsed, unknown = super().parse_known_args(args, namespace)
        out = getattr(parsed, "out", None)
        if out == "":
            self.error("--out: is empty; name one")
        is_file = any(action.dest == "out" and action.metavar == "FILE" for action in self._actions)
        if is_file and out and (not Path(out).name or os.path.isdir(out)):
            self.error(f"--out: {out} is a folder; name a file")
        return parsed, unknown

    def error(self, message):
        self.exit(2, f"{self.blamed}: {message} (--help lists the flags)\n")


def _printable(error: UnicodeError) -> tuple[str | bytes, int]:
    """What stands for characters that a stream's encoding lacks: bytes of a file's name for what
    they are, all else as \\u2013, so that a number keeps its minus sign.
    """
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.backslashreplace_errors(error)


codecs.register_error("printable", _printable)


def _stop(number, frame):
    """Leaves between two steps with status 130 or 143.

    Nothing is saved: the last checkpoint is what there is, as after a crash.
    """
    for path in files.unfinished:
        with suppress(OSError):
            path.unlink()
    name = signal.Signals(number).name
    line = f"{name}: stopped; the same command goes on after what is finished\n"
    os.write(2, line.encode())  # a print may be what was interrupted
    os._exit(128 + number)


def _explain(kind, error, trace):
    """What the machine refuses is one line, like a mistake of the user."""
    if isinstance(error, OSError) and error.errno:
        print(f"{error.filename or sys.argv[0]}: {os.strerror(error.errno)}", file=sys.stderr)
    elif isinstance(error, BrokenProcessPool):
        print(
            "a worker process was killed, perhaps for its memory; give fewer --workers",
            file=sys.stderr,
        )
    else:
        common.explain_memory(kind, error, trace)


class _Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows defaults, keeps the line breaks of the module's docstring."""


def _number(kind: type, low: float, high: float, description: str) -> Callable:
    """A type for add_argument: `kind` (int or float) from `low` to `high`."""

    def parse(text: str):
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not {description}") from None
        if not (low <= value <= high) or not math.isfinite(value):
            raise argparse.ArgumentTypeError(f"{text!r} is not {description}")
        return value

    return parse


def integer(low: int, high: int | None = None) -> Callable:
    """A type for add_argument: a whole number from `low` on, or from `low` to `high`."""
    if high is None:
        return _number(int, low, 10**9, f"a whole number of {low} or more")
    return _number(int, low, high, f"a whole number from {low} to {high}")


count = integer(1)
natural = integer(0)
rate = _number(float, 1e-12, 1e6, "a number above 0")
amount = _number(float, 0, 1e9, "a finite number of 0 or more")
fraction = _number(float, 0, 1, "a number from 0 to 1")
severity = _number(float, 0, 5, "a number from 0 to 5")


def levels(kind: Callable) -> Callable:
    """A type for add_argument: a comma-separated list of `kind`, ascending."""

    def parse(text: str) -> list:
        values = [kind(word) for word in text.split(",")]
        if any(low >= high for low, high in zip(values, values[1:])):
            raise argparse.ArgumentTypeError(f"{text!r} does not ascend")
        return values

    return parse
