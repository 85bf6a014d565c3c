"""Runs several recipes of one stage in turn, each in a fork of a process that has imported PyTorch
once: a recipe of ten seconds spends two or three in that import.

    python -m common.making.together FOLDER STAGE N TARGET WHAT COMMAND… N TARGET …

Each is a recipe as common/making/recipe.py runs it, with a line, a log, a file and an entry in the
journal of its own, so that a kill loses one. COMMAND has N words: `PYTHON -m MODULE FLAGS…`. The
first that fails is the last.
"""

import ast
import atexit
import importlib.util
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path

from common.making import recipe


def main():
    folder, stage, *words = sys.argv[1:]
    recipes = list(taken_apart(words))
    for *_, command in recipes:
        import_for(command[2])
    for target, what, command in recipes:
        if status := recipe.carry_out(folder, stage, target, what, command, Fork):
            sys.exit(status)


def taken_apart(words: list[str]) -> Iterator[tuple[str, str, list[str]]]:
    """(target, what, command) of each recipe."""
    while words:
        number, target, what, *rest = words
        yield target, what, rest[: int(number)]
        words = rest[int(number) :]


def import_for(module: str):
    """Imports what a script imports, so that its fork has it; the script itself is not run.

    Where that fails, the fork will say why.
    """
    with suppress(Exception):
        path = importlib.util.find_spec(module).origin
        script = ast.parse(Path(path).read_text())
        imports = [node for node in script.body if isinstance(node, ast.Import | ast.ImportFrom)]
        exec(compile(ast.Module(imports, []), path, "exec"), {})
        if "common.training.loop" in sys.modules:
            import torch

            torch.optim.SGD([torch.zeros(1)])  # whose making imports half as much again


class Fork:
    """A command in a fork of this process; as much of subprocess.Popen as a recipe needs."""

    def __init__(self, command: list[str], stdout: TextIOWrapper | None, close_fds: bool = False):
        fork = multiprocessing.get_context("fork")
        self.process = fork.Process(target=become, args=(command, stdout))
        self.command = command
        sys.stdout.flush()
        self.process.start()

    def send_signal(self, number: int):
        """As the signal reaches it."""
        if self.process.is_alive():
            os.kill(self.process.pid, number)

    def wait(self, timeout: float) -> int:
        """The exit status; of a process that a signal ended, minus its number.

        TimeoutExpired where it still runs after `timeout` seconds.
        """
        self.process.join(timeout)
        if self.process.exitcode is None:
            raise subprocess.TimeoutExpired(self.command, timeout)
        return self.process.exitcode


def become(command: list[str], stdout: TextIOWrapper | None):
    """Makes this process the one that `command` would have started."""
    for number in signal.SIGINT, signal.SIGTERM, signal.SIGHUP:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    if stdout:
        os.dup2(stdout.fileno(), sys.stdout.fileno())
    _, _, module, *flags = sys.orig_argv = command
    sys.argv = [module, *flags]
    try:
        runpy._run_module_as_main(module)  # which is what python -m calls
    except Exception:
        sys.excepthook(*sys.exc_info())
        sys.exit(1)
    finally:
        atexit._run_exitfuncs()  # multiprocessing leaves them out


if __name__ == "__main__":
    main()
