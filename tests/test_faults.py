"""What happens to a study: kills, a second make, full disks, bad flags, bad files, too little
memory.
"""

import argparse
import errno
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from conftest import MEASUREMENTS, METHODS, MODES, ROOT, SHORT, make_pack, run, words
from safetensors.torch import load_file

from common import cli, devices, files
from common.images import packs
from common.networks import models
from common.training import loop
from tests import fuzz, kill

# A third of the smoke study.
SMALL = ["METHODS=adam swa", "CONTROLS=", "MEASUREMENTS=clean gaussian_noise local_energy"]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """(folder, contents, seconds) of a study that nobody kills, one recipe after the other.

    Who uses it makes the study anew in the same folder.
    """
    folder, began = tmp_path_factory.mktemp("kill") / "study", time.monotonic()
    assert kill.start(folder, "-j1", *SMALL).wait() == 0, folder.with_suffix(".log").read_text()
    contents = kill.contents(folder)
    folders = {name.split("/")[0] for name in contents}
    assert folders >= {"adam-0", "swa-0", "adam-0--swa-0", "data", "report"}
    assert len(contents) > 500
    return folder, contents, time.monotonic() - began


@pytest.mark.full
@pytest.mark.parametrize("number", range(3))
def test_a_killed_study_ends_as_one_that_nobody_killed(number, uninterrupted):
    """Bit by bit, also with another -j. `python -m tests.kill` does it 30 times."""
    folder, expected, seconds = uninterrupted
    rng = random.Random(number)
    how = [
        {"signal": "SIGKILL", "after": rng.uniform(0.1, 0.4) * seconds},
        {"signal": "SIGTERM", "file": "resume.h5", "time": 2, "half": True},
        {"signal": "SIGINT", "file": "weights.safetensors", "time": 1, "half": False},
    ][number]
    shutil.rmtree(folder)
    shutil.rmtree(folder.with_suffix(".watch"), ignore_errors=True)
    folder.with_suffix(".log").unlink()
    together = f"TOGETHER={1 + number % 2}"  # recipes that share a process, in one of them
    wrong, gone, _ = kill.trial(folder, how, 4, *SMALL, together)
    wrong += kill.compare(kill.contents(folder), expected)
    assert not wrong, folder.with_suffix(".log").read_text()[-3000:]
    assert gone < 5


SCRIPTS = {
    "train": ["train.adam", "--epochs", "900", "--batch-size", "16", "--train-images", "20"],
    "finetune": ["finetune.full", "--epochs", "900", "--batch-size", "16", "--train-images", "20"],
    "battery": ["eval.battery", "--gaussian-noise-repeats", "200", "clean", "gaussian_noise"],
    "prepare": [
        "common.images.prepare",
        "glyphs:letters",
        "--train-per-class",
        "9999",
        "--workers",
        "2",
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "script, number",
    [
        ("train", signal.SIGTERM),
        ("finetune", signal.SIGINT),
        ("battery", signal.SIGTERM),
        ("prepare", signal.SIGINT),
    ],
)
def test_a_signal_ends_a_script_at_once_with_its_status_and_without_a_trace(
    script, number, pack_file, minimum, tmp_path
):
    out = tmp_path / "adam-0" if script == "train" else tmp_path / "x.h5"
    inputs = {
        "train": ["--data", pack_file],
        "prepare": [],
    }.get(script, ["--data", pack_file, "--minimum", minimum])
    running = subprocess.Popen(
        [sys.executable, "-m", *SCRIPTS[script], *map(str, inputs), "--out", out],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=kill.listen,
    )
    if script == "prepare":
        while not list(tmp_path.iterdir()) and running.poll() is None:
            time.sleep(0.05)
        time.sleep(0.5)
    else:
        assert running.stdout.readline()
    began = time.monotonic()
    running.send_signal(number)
    errors = running.communicate()[1]
    assert running.returncode == 128 + number
    assert time.monotonic() - began < 10  # an epoch, or a measurement, is not waited for
    assert errors.splitlines() == [
        f"{number.name}: stopped; the same command goes on after what is finished"
    ]
    while kill.alive(running.pid) and time.monotonic() - began < 20:  # its workers follow
        time.sleep(0.05)
    assert not kill.alive(running.pid)
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".part")]


@pytest.mark.parametrize(
    "script", ["train.adam", "eval.battery", "finetune.full", "common.images.prepare"]
)
def test_ctrl_c_during_the_imports_leaves_no_trace(script, tmp_path):
    """h5py, which all of them need, is made to take long."""
    (tmp_path / "h5py.py").write_text("import time\nprint('now', flush=True)\ntime.sleep(30)\n")
    running = subprocess.Popen(
        [sys.executable, "-m", script],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=kill.listen,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )
    assert running.stdout.readline() == "now\n"
    running.send_signal(signal.SIGINT)
    assert running.communicate()[1] == "" and running.returncode == -signal.SIGINT


def test_workers_end_with_their_process_also_when_it_is_killed(tmp_path):
    code = (
        "from common import files; import time; pool = files.worker_pool(2); "
        "list(pool.map(abs, range(9))); print('ready', flush=True); time.sleep(99)"
    )
    running = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert running.stdout.readline() and len(kill.alive(running.pid)) >= 2
    running.kill()
    running.wait()
    began = time.monotonic()
    while kill.alive(running.pid) and time.monotonic() < began + 20:
        time.sleep(0.05)
    assert not kill.alive(running.pid)


def make(folder, *arguments):
    return subprocess.run(
        ["make", f"A={folder}", *kill.FLAGS, *arguments], cwd=ROOT, capture_output=True, text=True
    )


@pytest.mark.slow
def test_a_second_make_in_a_folder_stops_and_names_the_first_even_where_that_one_was_killed(
    tmp_path,
):
    """The first one's recipe takes a few seconds; then make is killed, and the recipe lives on."""
    folder = tmp_path / "study"
    pack = f"{folder}/data/digits.h5"
    first = subprocess.Popen(
        ["make", pack, f"A={folder}", *kill.FLAGS, """LAUNCH=sh -c 'sleep 10; exec "$@"' sh"""],
        cwd=ROOT,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
    )
    while not (folder / "flags/lock").exists() or not (folder / "flags/lock").read_text():
        time.sleep(0.02)
    refused = make(folder, "all")
    lock = (folder / "flags/lock").read_text().strip()
    line = f"{folder}: {lock} is at work here; wait for it, or stop it"
    assert refused.returncode and len(refused.stderr.splitlines()) == 1
    assert line in refused.stderr
    assert f"make {pack} (process " in refused.stderr and not refused.stdout
    # Another profile is another folder, and to look is free.
    assert make(tmp_path / "other", f"{tmp_path}/other/flags/report").returncode == 0
    assert make(folder, "-n", "all").returncode == 0 == make(folder, "help").returncode
    makes = [
        number
        for number in kill.alive(first.pid)
        if b"make" in Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0")[0]
    ]
    for number in makes:
        os.kill(int(number), signal.SIGKILL)
    first.wait()
    assert len(makes) == 1
    # The recipe lives, and holds the lock.
    assert make(folder, pack).returncode and not os.path.exists(pack)
    while kill.alive(first.pid):
        time.sleep(0.05)
    assert make(folder, pack).returncode == 0 and os.path.exists(pack)


@pytest.mark.slow
def test_make_check_names_a_flipped_bit(tmp_path, pack_file, minimum):
    (tmp_path / "data").mkdir()
    shutil.copy(pack_file, tmp_path / "data/pretrain.h5")
    shutil.copytree(minimum, tmp_path / "adam-0")
    sound = "3 of 3 files are whole, 0 damaged or foreign; 0 made from other weights or images"
    assert sound in make(tmp_path, "check").stdout
    for path in tmp_path / "data/pretrain.h5", tmp_path / "adam-0/weights.safetensors":
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 4
        path.write_bytes(content)
    checked = make(tmp_path, "check")
    assert checked.returncode and checked.stdout.count("damaged") == 3
    assert "1 of 3 files are whole, 2 damaged or foreign; 0 made" in checked.stdout


def full(folder, size, *command, after=""):
    """Runs a command where `folder` is a file system of `size` of its own.

    Returns its status, the lines of its errors, and {name: size} of the files that it leaves.
    """
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("needs user namespaces, to mount a small file system")
    script = (
        f"mount -t tmpfs -o size={size} tmpfs {folder}; {after}; "
        f'set +e; "$@" >&2; echo $?; cd {folder}; find . -type f -printf "%P %s\\n"'
    )
    made = subprocess.run(
        ["unshare", "-rm", "bash", "-ec", script, "bash", *map(str, command)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    status, *left = made.stdout.splitlines()
    sizes = {name: int(size) for name, size in (line.rsplit(" ", 1) for line in left)}
    return int(status), made.stderr.splitlines(), sizes


WRITERS = {
    "pack": (
        ["common.images.prepare", "glyphs:digits", "--image-size", "64", "--out", "{}/x/pack.h5"],
        "x/pack.h5",
    ),
    "checkpoint": (
        ["train.adam", "--data", "{pack}", "--out", "{}/adam-0", *SHORT],
        "adam-0/resume.h5",
    ),
    "minimum": (
        ["train.adam", "--data", "{pack}", "--out", "{}/adam-0", *SHORT, "--epochs", "1"],
        "adam-0/weights.safetensors",
    ),
    "passport": (
        [
            "eval.battery",
            "--data",
            "{pack}",
            "--minimum",
            "{minimum}",
            "--out",
            "{}/passport.h5",
            "clean",
        ],
        "passport.part.h5",
    ),
    "finetuning": (
        [
            "finetune.full",
            "--data",
            "{pack}",
            "--minimum",
            "{minimum}",
            "--out",
            "{}/full.h5",
            *SHORT[2:],
            "--epochs",
            "1",
        ],
        "full.part.h5",
    ),
    "report": (["eval.report", "--out", "{}/report", "{minimum}/training.h5"], "report/"),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "what, how",
    [
        *((what, "full") for what in WRITERS),
        *((what, "read-only") for what in ("pack", "minimum", "passport")),
    ],
)
def test_what_cannot_be_written_is_one_line_and_what_was_there_stays(
    what, how, pack_file, minimum, tmp_path
):
    command, name = WRITERS[what]
    fill = f"echo kept > {tmp_path}/kept.h5; head -c 40000 /dev/zero > {tmp_path}/filler"
    if how == "read-only":
        fill += f"; mount -o remount,ro {tmp_path}"
    command = [word.format(tmp_path, pack=pack_file, minimum=minimum) for word in command]
    status, errors, left = full(
        tmp_path,
        "64k" if what in ("passport", "finetuning", "report") else "1m",
        sys.executable,
        "-m",
        *command,
        after=fill,
    )
    progress = "adam-0 epoch", "adam-0 pack full", "adam-0 clean", "adam-0: running"
    errors = [line for line in errors if not line.startswith(progress)]
    message = "No space left on device" if how == "full" else "Read-only file system"
    assert status == 1 and len(errors) == 1, errors
    assert errors[0].startswith(f"{tmp_path}/{name if how == 'full' else ''}"), errors
    assert message in errors[0], errors
    assert left.pop("kept.h5") == 5 and left.pop("filler") == 40000
    assert not any(".part" in path or path.endswith(name) for path in left), left


@pytest.mark.slow
def test_without_permission_it_is_one_line(pack_file, minimum, tmp_path):
    other = ["setpriv", "--reuid=65534", "--clear-groups"] if os.getuid() == 0 else []
    tmp_path.chmod(0o555)
    made = subprocess.run(
        [
            *other,
            sys.executable,
            "-m",
            "common.images.prepare",
            "glyphs:digits",
            "--out",
            tmp_path / "x.h5",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    tmp_path.chmod(0o755)
    (line,) = made.stderr.splitlines()
    assert made.returncode == 1
    start = f"{tmp_path}/x.h5: cannot be written (Permission denied); "
    assert line.startswith(start + "what was finished before is kept")


@pytest.mark.parametrize("number", [errno.EDQUOT, errno.EIO])
def test_a_quota_or_a_failing_disk_is_one_line(number, tmp_path, monkeypatch):
    def fail(file):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with (
        pytest.raises(
            SystemExit, match=re.escape(f"x.h5: cannot be written ({os.strerror(number)})")
        ),
        files.write(tmp_path / "x.h5") as file,
    ):
        file["a"] = 1
    assert list(tmp_path.iterdir()) == []


def parsers(monkeypatch, script):
    """The parser that a script makes."""

    class Made(Exception):
        pass

    def stop(self, *_):
        raise Made(self)

    for name in "parse_args", "parse_intermixed_args":
        monkeypatch.setattr(cli.Parser, name, stop)
    with pytest.raises(Made) as made:
        run(monkeypatch, script)
    monkeypatch.undo()
    return made.value.args[0]


@pytest.mark.parametrize(
    "script",
    [
        "common.images.prepare",
        "eval.battery",
        *(f"train.{name}" for name in METHODS),
        *(f"eval.{name}" for name in MEASUREMENTS + words("COMPARISONS")),
        *(f"finetune.{name}" for name in MODES),
    ],
)
def test_every_number_among_the_flags_has_a_range(script, monkeypatch):
    if script == "eval.battery":
        monkeypatch.setattr(sys, "argv", ["battery", *MEASUREMENTS])
    actions = parsers(monkeypatch, script)._actions
    numbers = [
        action
        for action in actions
        if isinstance(action.default, int | float | list) and not isinstance(action.default, bool)
    ]
    assert numbers
    for action in numbers:
        if action.dest not in ("names", "files"):
            assert action.type is not None, action.option_strings
            for bad in "-1", "nan", "inf", "-inf", "x", "", "1e999", "1,", "9" * 400:
                with pytest.raises(argparse.ArgumentTypeError):
                    action.type(bad)


@pytest.mark.parametrize(
    "flags, status, message",
    [
        (["--lr", "-1"], 2, "--lr: '-1' is not a number above 0"),
        (["--lr", "nan"], 2, "--lr: 'nan'"),
        (["--sigma", "nan"], 2, "--sigma: 'nan' is not a finite number"),
        (["--epochs", "0"], 2, "--epochs: '0' is not a whole number of 1 or more"),
        (["--seed", "1.5"], 2, "--seed: '1.5' is not a whole number"),
        (["--target", "1.1"], 2, "--target: '1.1' is not a number from 0 to 1"),
        (["--batch-size", "71"], 1, "--batch-size 71: larger than the 70 training images of"),
        (["--device", "tpu"], 2, "--device: invalid choice"),
        (["--arch", "resnet19"], 1, "torchvision.models has no such network"),
    ],
)
def test_a_flag_out_of_range_is_one_line(
    flags, status, message, pack_file, tmp_path, monkeypatch, capsys
):
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, "train.noisy_adam", "--data", pack_file, "--out", tmp_path, *flags)
    said = capsys.readouterr().err.strip() if status == 2 else stopped.value.code
    assert status == 1 or stopped.value.code == 2
    assert message in said and len(said.splitlines()) == 1


def test_too_little_memory_names_the_batch_size(pack_file, minimum, tmp_path, monkeypatch):
    """An allocation that the machine really refuses."""
    forward = loop.Run.forward
    monkeypatch.setattr(
        loop.Run, "forward", lambda *words: (torch.empty(10**15), forward(*words))[1]
    )
    with pytest.raises(
        SystemExit,
        match="--batch-size 16: the device's memory does not suffice; give a smaller one",
    ):
        run(monkeypatch, "train.adam", "--data", pack_file, "--out", tmp_path, *SHORT)
    monkeypatch.setattr(
        "common.networks.models.ResNet18.forward", lambda *words: torch.empty(10**15)
    )
    with pytest.raises(SystemExit, match="--batch-size 250"), devices.explain_out_of_memory(250):
        raise torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(RuntimeError, match="another"), devices.explain_out_of_memory(250):
        raise RuntimeError("another")


@pytest.mark.parametrize("cases", [400, pytest.param(5000, marks=pytest.mark.full)])
def test_readers_survive_damaged_files(cases):
    """The same cases each time; `python -m tests.fuzz` reads 10,000."""
    outcomes = fuzz.trial(cases)
    kinds = {"pack", "passport", "finetune", "report", "checkpoint", "weights"}
    assert sum(outcomes.values()) == cases and {kind for kind, _ in outcomes} == kinds
    unchanged = [count for (_, outcome), count in outcomes.items() if outcome == "as it was"]
    assert sum(unchanged) < 0.05 * cases


def reseal(path, out, tensors=None, **changes):
    """A minimum with other tensors or metadata, under a seal that fits.

    What a program writes that is not ours.
    """
    state, metadata = load_file(path), models.load(path)[1]
    metadata.pop("sha256", None)
    models.save(out, tensors or state, **(metadata | changes))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"classes": ["a", "b"]}, "its tensors are not those of resnet18 with 2 classes"),
        # Two gigabytes, if it were built.
        (
            {"classes": ["x"] * 1_000_000},
            "its tensors are not those of resnet18 with 1000000 classes",
        ),
        ({"arch": "regnet_y_128gf"}, "its tensors are not those of regnet_y_128gf with 5 classes"),
        ({"arch": "resnet19"}, "has no such network"),
    ],
)
def test_weights_of_another_network_are_named_before_it_is_built(
    changes, message, minimum, tmp_path
):
    reseal(minimum / "weights.safetensors", tmp_path / "w.safetensors", **changes)
    with pytest.raises(SystemExit, match=message):
        models.load(tmp_path / "w.safetensors")


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_named(number, minimum, tmp_path):
    tensors = load_file(minimum / "weights.safetensors")
    tensors["layer1.0.conv1.weight"].view(-1)[3] = number
    reseal(minimum / "weights.safetensors", tmp_path / "w.safetensors", tensors)
    said = r"w.safetensors: 1 of its tensors hold what is no finite number \(the first: layer1.0.co"
    with pytest.raises(SystemExit, match=said):
        models.load(tmp_path / "w.safetensors")


@pytest.mark.parametrize("what", [b'"image_size":', b'"seed":', b'"data":'])
def test_a_flipped_bit_in_the_metadata_of_weights_is_found(what, minimum, tmp_path):
    content = bytearray((minimum / "weights.safetensors").read_bytes())
    after_name = content.index(what) + len(what)
    content[content.index(b'"', after_name) + 1] ^= 1
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(SystemExit, match="damaged"):
        models.load(tmp_path / "w.safetensors")


def test_a_passport_or_a_pack_of_something_else_is_named(pack_file, minimum, tmp_path, monkeypatch):
    measured = [
        "eval.battery",
        "--data",
        pack_file,
        "--minimum",
        minimum,
        "--images",
        20,
        "--batchnorm-images",
        20,
        "clean",
    ]
    run(monkeypatch, *measured, "--out", tmp_path / "passport.h5")
    other = tmp_path / "swa-0" / "weights.safetensors"
    reseal(minimum / "weights.safetensors", other, minimum="swa-0")
    measured[4] = other.parent
    with pytest.raises(SystemExit, match="is the passport of adam-0, not the passport of swa-0"):
        run(monkeypatch, *measured, "--out", tmp_path / "passport.h5")
    with pytest.raises(SystemExit, match="pack.h5: is the pack of None, not the passport"):
        run(monkeypatch, *measured, "--out", shutil.copy(pack_file, tmp_path / "pack.h5"))
    large = make_pack(tmp_path / "large.h5", size=40)
    with pytest.raises(SystemExit, match="40 px images, but .* was trained at 32 px"):
        flags = "--data", large, "--minimum", minimum, "--out", tmp_path / "f.h5"
        run(monkeypatch, "finetune.full", *flags)
    with pytest.raises(SystemExit, match="not a pack of images"):
        packs.load(minimum / "training.h5", torch.device("cpu"))


@pytest.mark.slow
def test_finetuning_never_keeps_what_other_settings_left_unfinished(
    pack_file, minimum, tmp_path, monkeypatch
):
    """A study of lr A is finished, one of lr B is killed, then A is asked for again; and RUNS is
    lowered after a kill.
    """
    out = tmp_path / "full.h5"

    def finetune(lr, runs):
        inputs = "--data", pack_file, "--minimum", minimum, "--out", out
        flags = *SHORT, "--epochs", 1, "--lr", lr, "--runs", runs
        run(monkeypatch, "finetune.full", *inputs, *flags)
        with h5py.File(out) as file:
            return json.loads(file.attrs["settings"])["lr"], file["test/loss"][()]

    first = finetune(1e-3, 1)
    kept = out.read_bytes()
    finetune(1e-2, 2)
    out.rename(tmp_path / "full.part.h5")
    out.write_bytes(kept)
    again = finetune(1e-3, 1)
    assert again[0] == 1e-3 and np.array_equal(again[1], first[1])
    assert not (tmp_path / "full.part.h5").exists()
    finetune(1e-2, 2)
    out.rename(tmp_path / "full.part.h5")
    assert finetune(1e-2, 1)[1].shape[0] == 1
