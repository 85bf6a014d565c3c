"""Kills the smoke study at 30 seeded moments, runs `make all` again each time, and compares with a
study that nobody killed. In every second one recipes share a process (TOGETHER=2).

    python -m tests.kill [--kills N] [--seed K] [--folder FOLDER]

About a minute and a half a kill on 2 cores. The first kills come when a certain file (WRITES) is
about to get its name, half written, or just has it; the others at a random time. The signal goes to
make and all it started. Afterwards everything is there, bit by bit the same but for times, nothing
is left over, and little was done twice.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import h5py

from common import files, provenance

# Of a study's folder, what tells how it was made, not what came of it.
ABOUT_THE_MAKES = "flags/lock", "graph.mk", "journal.jsonl", "logs"
SIGNALS = "SIGKILL", "SIGTERM", "SIGINT"
WRITES = [
    "pretrain.h5",
    "digits.h5",
    "resume.h5",
    "training.h5",
    "weights.safetensors",
    "passport.part.h5",
    "passport.h5",
    "full.resume.h5",
    "full.part.h5",
    "full.h5",
    "distance.h5",
    "line.h5",
    "question.svg",
    "question.pdf",
    "summary.csv",
    "results.json",
    "index.html",
]
FLAGS = [
    "PROFILE=smoke",
    f"PYTHON={sys.executable}",
    "TRAIN=--batch-size 32 --train-images 50 --checkpoint-every 0",
    "FINETUNE=--epochs 2 --batch-size 32 --lr 1e-3 --train-images 50 --checkpoint-every 0",
]
# Python runs this file before anything else: it watches for the file that is named, and kills once,
# whichever process comes there first.
WATCH = """
import json, os, signal, sys
asked, armed = json.loads(os.environ["KILL_AT"]), [0, False]
def watch(event, words):
    if armed[1]:
        armed[1] = False
        os.killpg(0, asked["signal"])
    if event == "os.rename" and os.path.basename(words[1]) == asked["file"]:
        armed[0] += 1
        if armed[0] == asked["time"]:
            try:
                os.close(os.open(asked["once"], os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return
            if asked["half"]:
                os.truncate(words[0], os.path.getsize(words[0]) // 2)
                os.killpg(0, asked["signal"])
            armed[1] = True  # after the next thing that happens: the rename
sys.addaudithook(watch)
"""


def start(folder, *words, **environment):
    """Starts `make all` into `folder`, in a session of its own; it prints into folder.log."""
    with open(folder.with_suffix(".log"), "a") as log:
        return subprocess.Popen(
            ["make", "all", f"A={folder}", *FLAGS, *words],
            cwd=provenance.ROOT,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=os.environ | environment,
            preexec_fn=listen,
        )


def listen():
    """For a new process: SIGINT counts, also where its parent is in the background, ignoring it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def alive(session):
    """The numbers of a session's processes."""
    numbers = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":  # a zombie is no process any more
            numbers.append(stat.parent.name)
    return numbers


def contents(folder):
    """{file, or group or dataset of one: digest} of a study; times are left out."""
    digests = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if not path.is_file() or path.suffix == ".pdf" or name.startswith(ABOUT_THE_MAKES):
            continue
        if path.suffix == ".h5":
            digests |= {f"{name}/{item}": value for item, value in digests_of_items(path).items()}
        else:
            digests[name] = files.sha256(path.read_bytes())
    return digests


def digests_of_items(path):
    """{group or dataset of an HDF5 file: digest}; "" is the file itself."""
    digests = {}

    def add(name, item):
        unstable = "seconds", "REFERENCE_LIST", "DIMENSION_LIST"
        attributes = {key: str(value) for key, value in item.attrs.items() if key not in unstable}
        data = b""
        if isinstance(item, h5py.Dataset) and name != "seconds" and item.dtype.kind != "O":
            data = item[()].tobytes()
        digests[name] = files.sha256(attributes, data)

    with files.read(path) as file:
        add("", file)
        file.visititems(add)
    return digests


def done(folder):
    """Counter of the epochs and measurements that the recipes say were finished."""
    logs = "".join(path.read_text() for path in sorted(folder.glob("logs/**/*.log")))
    return Counter(re.findall(r"^(\S+ .*?epoch \d+/\d+|\S+ \w+(?=: [\d.]+ s$))", logs, re.M))


def trial(folder, kill, jobs, *words):
    """One kill and what follows.

    Returns lines of what is wrong, seconds from the signal to the last process's end, and how much
    was done twice.
    """
    log = folder.with_suffix(".log")
    wrong, seconds = killed(folder, kill, *words)
    if "Traceback" in log.read_text():
        wrong.append("a traceback")
    again = start(folder, f"-j{jobs}", *words)
    if again.wait():
        wrong.append(f"make all ended with {again.returncode}")
    if left := [str(path) for path in folder.rglob("*") if unfinished(path.name)]:
        wrong.append(f"left over: {left}")
    twice = {name: count for name, count in done(folder).items() if count > 1}
    # Two recipes run at once, each of which loses what it was at.
    if max(twice.values(), default=0) > 2 or len(twice) > 2:
        wrong.append(f"done twice: {twice}")
    return wrong, seconds, len(twice)


def unfinished(name):
    """Whether a file's name is that of something half written, or kept to go on from."""
    return name.startswith(".") or ".part" in name or "resume" in name


def killed(folder, kill, *words):
    """Starts a study and kills it; returns (lines of what is wrong, seconds until it was gone)."""
    wrong, number = [], getattr(signal, kill["signal"])
    environment = {}
    if "file" in kill:
        watch = folder.with_suffix(".watch")
        watch.mkdir(parents=True)
        (watch / "sitecustomize.py").write_text(WATCH)
        asked = kill | {"signal": int(number), "once": str(watch / "once")}
        environment = {"PYTHONPATH": str(watch), "KILL_AT": json.dumps(asked)}
    make = start(folder, *words, **environment)
    if "file" in kill:
        make.wait()
        ended = time.monotonic()
    else:
        time.sleep(kill["after"])
        ended = time.monotonic()
        if make.poll() is None:
            os.killpg(make.pid, number)
            make.wait()
    if make.returncode == 0:
        wrong.append("was not killed")
    while alive(make.pid) and time.monotonic() < ended + 20:
        time.sleep(0.02)
    seconds = time.monotonic() - ended
    if alive(make.pid):
        wrong.append(f"processes are left: {alive(make.pid)}")
    return wrong, seconds


def compare(contents, expected):
    """Lines of what differs between two studies."""
    names = sorted(contents.keys() | expected.keys())
    return [f"differs: {name}" for name in names if contents.get(name) != expected.get(name)]


def moments(count, seed, seconds):
    """Yields `count` kills of a study that takes `seconds`."""
    rng = random.Random(seed)
    for number in range(count):
        kill = {"signal": SIGNALS[number % len(SIGNALS)]}
        if number < len(WRITES):
            name = WRITES[number]
            # Two of them are renamed from files that were whole, and on disk, before.
            half = rng.random() < 0.5 and name not in ("passport.h5", "full.h5")
            yield kill | {"file": name, "time": 1, "half": half}
        else:
            yield kill | {"after": round(rng.uniform(0, 0.9 * seconds), 2)}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/basins-kill"))
    parser.add_argument("--only", type=int, help="this one of them")
    args = parser.parse_args()
    shutil.rmtree(args.folder, ignore_errors=True)
    args.folder.mkdir(parents=True)
    folder, failed = args.folder / "study", 0
    began = time.monotonic()
    if start(folder).wait():
        raise SystemExit(f"the study fails by itself: {folder}.log")
    uninterrupted = time.monotonic() - began
    expected = contents(folder)
    print(f"{uninterrupted:.0f} s uninterrupted, {len(expected)} parts compared", flush=True)
    for number, kill in enumerate(moments(args.kills, args.seed, uninterrupted)):
        if args.only not in (None, number):
            continue
        shutil.rmtree(folder)  # always the same path: commands are compared too
        folder.with_suffix(".log").unlink()
        shutil.rmtree(folder.with_suffix(".watch"), ignore_errors=True)
        together = f"TOGETHER={1 + number % 2}"
        wrong, seconds, twice = trial(folder, kill, (1, 2, 4)[number % 3], together)
        wrong += compare(contents(folder), expected)
        failed += bool(wrong)
        print(
            f"{number}: {kill}: gone after {seconds:.2f} s, {twice} done twice; "
            f"{'; '.join(wrong[:9]) or 'the same'}",
            flush=True,
        )
        if wrong:
            shutil.copy(folder.with_suffix(".log"), args.folder / f"{number}.log")
    print(f"{args.kills} kills, {failed} with something wrong")
    raise SystemExit(bool(failed))


if __name__ == "__main__":
    main()
