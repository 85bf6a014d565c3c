"""Runs the command of one rule of a study, and says in one line what, how many of how many, and how
long the study will still take.

    python -m common.making.recipe FOLDER STAGE TARGET WHAT COMMAND…

What the command prints goes to FOLDER/logs/; what it reports as an error is shown. With SHOW=1 in
the environment all is shown. Needs Python's standard library alone.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from common.making import contents
from common.making.journal import Journal, remaining, share_lock, since_make

BAR = 30  # characters
STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM)  # by whom it may concern; no failure

Start = Callable[..., subprocess.Popen]
KILLED = {
    signal.SIGKILL: ", as the system does where memory ends; JOBS=1 needs the least",
    signal.SIGBUS: ", as where a file it reads is cut short; the same command goes on",
}


def main():
    folder, stage, target, what, *command = sys.argv[1:]
    sys.exit(carry_out(folder, stage, target, what, command, subprocess.Popen))


def carry_out(
    folder: str, stage: str, target: str, what: str, command: list[str], start: Start
) -> int:
    """Runs one recipe; the exit status. `start` is subprocess.Popen, or what does the same."""
    sys.stdout.reconfigure(errors="replace")  # what a script printed, on any terminal
    log = Path(folder, "logs", f"{os.path.relpath(target, folder)}.log")
    log = None if os.environ.get("SHOW") else log
    if "MAKE_PROCESS" in os.environ:
        share_lock(folder, int(os.environ["MAKE_PROCESS"]))
        about = {"stage": stage, "kind": what.split()[0], "target": target}
        status = run_for_make(Journal(folder), about, what, command, log, start)
    else:  # by hand, or a report on a part: no make counts it
        print(what, flush=True)
        status = run(command, log, lambda: None, start)
    if status and status not in STOPPED:
        where = f"; {log} has what it printed" if last_line(log) else ""
        print(f"failed: {what} ({in_words(status)}){where}", file=sys.stderr, flush=True)
    return status


def in_words(status: int) -> str:
    """An exit status; of a process that a signal ended also which one, and why it may have been."""
    try:
        ended_by = signal.Signals(status - 128)
    except ValueError:
        return f"status {status}"
    return f"status {status}: {ended_by.name}{KILLED.get(ended_by, '')}"


def run_for_make(
    journal: Journal, about: dict, what: str, command: list[str], log: Path | None, start: Start
) -> int:
    """Runs one of the recipes that a make set out to run; the exit status. `about`: its stage, kind
    and target.
    """
    target = about["target"]
    sources = contents.sources(journal.folder, target)  # as they are now: the command reads them
    position = journal.write("began", **about)
    say(journal, position, what)
    began = time.monotonic()
    status = run(command, log, lambda: draw(journal, what, log), start)
    if not status:
        seconds = round(time.monotonic() - began, 3)
        made = contents.digests(journal.folder, [target])
        journal.write("ended", **about, seconds=seconds, made=made, **{"from": sources})
        draw(journal, "", None)
    return status


def run(
    command: list[str], log: Path | None, while_it_runs: Callable[[], None], start: Start
) -> int:
    """The command's exit status; its output is added to `log`, or shown. Signals are handed on."""
    child = None

    def hand_on(number, frame):
        if child:
            child.send_signal(number)

    for number in signal.SIGINT, signal.SIGTERM, signal.SIGHUP:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, hand_on)
    if log:
        log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "a") if log else nullcontext() as output:
        if output:
            print(f"$ {shlex.join(command)}", file=output, flush=True)
        try:
            child = start(command, stdout=output, close_fds=False)
        except OSError as error:
            print(f"{command[0]}: {error.strerror}", file=sys.stderr)
            return 127
        while True:
            try:
                status = child.wait(timeout=1)
                return status if status >= 0 else 128 - status
            except subprocess.TimeoutExpired:
                while_it_runs()


def say(journal: Journal, position: int, what: str):
    """The line of a recipe that begins, whose event ends at byte `position` of the journal."""
    number, total, left = progress(journal, position)
    clear = "\r\033[K" if sys.stdout.isatty() else ""
    count = f"[{number}/{max(number, total)}]"  # make -W may run more than was foreseen
    line = f"{clear}{count} {what}{f', {left}' if left else ''}\n"
    sys.stdout.write(line)  # at once: other recipes print too
    sys.stdout.flush()


def draw(journal: Journal, what: str, log: Path | None):
    """On a terminal, a bar of what has ended, and the last line that the recipe printed."""
    if not sys.stdout.isatty() or os.environ.get("SHOW"):
        return
    events = since_make(journal.events())
    total = sum(to_make(events).values())
    ended = sum(event["event"] == "ended" for event in events)
    if not total:
        return
    full = min(BAR, BAR * ended // total)
    bar = f"[{'#' * full}{'.' * (BAR - full)}] {ended}/{total}"
    words = [bar, progress(journal, None)[2], last_line(log) or what]
    line = ", ".join(word for word in words if word)[: shutil.get_terminal_size().columns - 1]
    print(f"\r\033[K{line}", end="\n" if ended >= total else "", flush=True)


def last_line(log: Path | None) -> str:
    """What a recipe printed last, or nothing."""
    lines = log.read_text(errors="replace").splitlines() if log else []
    return lines[-1] if lines and not lines[-1].startswith("$ ") else ""


def progress(journal: Journal, position: int | None) -> tuple[int, int, str]:
    """(recipes begun, all recipes of this make, how long it will still take, in words)."""
    everything = journal.events(position)
    events = since_make(everything)
    left = to_make(events)
    total, spent, now = sum(left.values()), 0.0, time.time()
    began = [event for event in events if event["event"] == "began"]
    ended = {event["target"] for event in events if event["event"] == "ended"}
    for event in began:
        if event["target"] in ended:
            left[event["kind"], event["stage"]] -= 1
        else:
            spent += now - event["time"]
    seconds = journal.seconds(everything, events[0].get("expected", {}) if events else {})
    return len(began), total, str(remaining(left, seconds, jobs(), spent))


def to_make(events: list[dict]) -> Counter:
    """{(kind, stage): recipes} that the make which began last set out to run."""
    asked = events[0]["to_make"] if events else []
    return Counter({(kind, stage): number for kind, stage, number in asked})


def jobs() -> int:
    """How many recipes make runs at once."""
    found = re.search(r"-j(\d+)", os.environ.get("MAKEFLAGS", ""))
    return int(found[1]) if found else 1


if __name__ == "__main__":
    main()
