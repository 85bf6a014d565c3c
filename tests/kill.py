"""Kills the smoke study at 30 seeded moments, runs `make all` again each time, and compares with a study that nobody killed.

    python -m tests.kill [--kills N] [--seed K] [--folder FOLDER]      about a minute and a half a kill on 2 cores

The first 17 kills come when a certain file is about to get its name, half written, or just has it; the others at a random time. The signal goes to
make and all it started. Afterwards: everything is there, bit by bit the same but for times, nothing is left over, little was done twice.
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

SIGNALS = "SIGKILL", "SIGTERM", "SIGINT"
WRITES = [
    "pretrain.h5",
    "finetune.h5",
    "resume.h5",
    "training.h5",
    "weights.safetensors",
    "last.safetensors",
    "passport.part.h5",
    "passport.h5",
    "finetune-full.resume.h5",
    "finetune-full.part.h5",
    "finetune-full.h5",
    "pair.h5",
    "question.svg",
    "question.pdf",
    "summary.csv",
    "results.json",
    "index.html",
]
FLAGS = [
    "PROFILE=smoke",
    f"PYTHON={sys.executable}",
    "FINETUNE=--epochs 2 --batch-size 32 --lr 1e-3 --train-images 50",
]
# Python runs this file before anything else: it watches for the file that is named, and kills once, whichever process comes there first.
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
    """`make all` into `folder`, in a session of its own; what it prints goes to folder.log."""
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
    """For a new process: SIGINT counts, also where what started it runs in the background and ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def alive(session):
    """The processes of a session."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(words[3]) == session and words[0] != "Z":
            found.append(stat.parent.name)
    return found


def contents(folder):
    """{file, or part of one: digest} of a study; times are left out."""
    found = {}
    for path in sorted(
        path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pdf"
    ):
        name = str(path.relative_to(folder))
        if path.suffix == ".h5":
            with files.read(path) as file:
                parts = {"": file}
                file.visititems(lambda at, item: parts.update({at: item}))
                for at, item in parts.items():
                    attrs = {
                        key: str(value)
                        for key, value in item.attrs.items()
                        if key not in ("seconds", "REFERENCE_LIST", "DIMENSION_LIST")
                    }
                    data = (
                        item[()].tobytes()
                        if isinstance(item, h5py.Dataset)
                        and at != "seconds"
                        and item.dtype.kind != "O"
                        else b""
                    )
                    found[f"{name}/{at}"] = files.sha256(attrs, data)
        elif name != "flags/lock":
            found[name] = files.sha256(path.read_bytes())
    return found


def done(log):
    """Counter of the epochs and measurements that a log says were finished."""
    return Counter(re.findall(r"^(\S+ .*?epoch \d+/\d+|\S+ \w+(?=: [\d.]+ s$))", log, re.M))


def trial(folder, kill, jobs, *words):
    """One kill and what follows; returns (lines of what is wrong, seconds from the signal to the last process's end, how much was done twice)."""
    wrong, log = [], folder.with_suffix(".log")
    number = getattr(signal, kill["signal"])
    environment = {}
    if "file" in kill:
        watch = folder.with_suffix(".watch")
        watch.mkdir(parents=True)
        (watch / "sitecustomize.py").write_text(WATCH)
        environment = {
            "PYTHONPATH": str(watch),
            "KILL_AT": json.dumps(kill | {"signal": int(number), "once": str(watch / "once")}),
        }
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
    killed = log.read_text()
    if "Traceback" in killed:
        wrong.append("a traceback")
    again = start(folder, f"-j{jobs}", *words)
    if again.wait():
        wrong.append(f"make all ended with {again.returncode}")
    if left := [
        str(path)
        for path in folder.rglob("*")
        if path.name.startswith(".") or ".part" in path.name or "resume" in path.name
    ]:
        wrong.append(f"left over: {left}")
    twice = {name: count for name, count in done(log.read_text()).items() if count > 1}
    if (
        max(twice.values(), default=0) > 2 or len(twice) > 2
    ):  # two recipes at once, each of which loses what it was at
        wrong.append(f"done twice: {twice}")
    return wrong, seconds, len(twice)


def compare(found, expected):
    """Lines of what differs between two studies."""
    return [
        f"differs: {name}"
        for name in sorted(found.keys() | expected.keys())
        if found.get(name) != expected.get(name)
    ]


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
    folder, rng, failed = args.folder / "study", random.Random(args.seed), 0
    began = time.monotonic()
    if start(folder).wait():
        raise SystemExit(f"the study fails by itself: {folder}.log")
    whole = time.monotonic() - began
    expected = contents(folder)
    print(f"{whole:.0f} s uninterrupted, {len(expected)} parts compared", flush=True)
    for number in range(args.kills):
        kill = {"signal": SIGNALS[number % 3]}
        if number < len(WRITES):
            name = WRITES[
                number
            ]  # two of them are renamed from files that were whole, and on disk, before
            kill |= {
                "file": name,
                "time": 1,
                "half": rng.random() < 0.5 and name not in ("passport.h5", "finetune-full.h5"),
            }
        else:
            kill |= {"after": round(rng.uniform(0, 0.9 * whole), 2)}
        if args.only not in (None, number):
            continue
        shutil.rmtree(folder)  # always the same path: commands are compared too
        folder.with_suffix(".log").unlink()
        shutil.rmtree(folder.with_suffix(".watch"), ignore_errors=True)
        wrong, seconds, twice = trial(folder, kill, (1, 2, 4)[number % 3])
        wrong += compare(contents(folder), expected)
        if "after" in kill:
            whole = (
                min(whole, kill["after"]) if "was not killed" in wrong else whole
            )  # the machine was busier when it was timed
        failed += bool(wrong)
        print(
            f"{number}: {kill}: gone after {seconds:.2f} s, {twice} done twice; {'; '.join(wrong[:9]) or 'the same'}",
            flush=True,
        )
        if wrong:
            shutil.copy(folder.with_suffix(".log"), args.folder / f"{number}.log")
    print(f"{args.kills} kills, {failed} with something wrong")
    raise SystemExit(bool(failed))


if __name__ == "__main__":
    main()
