"""Files: whole or absent, checked before they are believed, and readable without this project."""

import errno
import fcntl
import os
import platform
import shutil
import signal
import stat
import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch
import torchvision
from conftest import ROOT, SHORT, make_pack, run
from safetensors.torch import load_file, save_file

from common import files, parts
from common.images import packs
from common.networks import models


def test_a_file_is_whole_or_absent(tmp_path):
    with pytest.raises(RuntimeError), files.write(tmp_path / "x.h5") as file:
        file["a"] = 1
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def curves(tmp_path):
    path = tmp_path / "curves.h5"
    with files.write(path) as file:
        epoch = files.scale(file, "epoch", np.arange(3), "passes")
        files.array(file, "loss", np.zeros(3), "nats per image", epoch)
    return path


def test_any_hdf5_tool_opens_ours(curves):
    with h5py.File(curves) as file:
        assert file["loss"].dims[0][0] == file["epoch"]
        assert file["loss"].attrs["units"] == "nats per image"


@pytest.mark.parametrize("place", [0.3, 0.7, 0.999])
def test_a_flipped_bit_is_found(place, curves):
    content = bytearray(curves.read_bytes())
    content[max(512, int(place * len(content)))] ^= 1
    curves.write_bytes(content)
    with pytest.raises(SystemExit, match="damaged"):
        files.read(curves)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "not a file that basins made"),
        (b"\x89HDF\r\n\x1a\n" + b"0" * 999, "not a file that basins made"),
    ],
)
def test_a_foreign_file_is_named(content, message, tmp_path):
    (tmp_path / "x.h5").write_bytes(content)
    with pytest.raises(SystemExit, match=f"x.h5: {message}"):
        files.read(tmp_path / "x.h5")


def test_a_truncated_and_a_missing_file_are_named(curves):
    curves.write_bytes(curves.read_bytes()[:-1])
    with pytest.raises(SystemExit, match="wrong size"):
        files.read(curves, check=False)
    with pytest.raises(SystemExit, match="No such file"):
        files.read(curves.with_name("none.h5"))


@pytest.mark.slow
def test_what_is_no_regular_file_is_named_and_not_read(curves):
    """In a process of its own: whoever opens a pipe waits for its writer, and is hard to stop."""
    folder, kinds = curves.parent, {}
    for name in "x.h5", "weights.safetensors":
        for kind in "a named pipe", "a socket", "a device":
            path = folder / kind.split()[-1] / name
            path.parent.mkdir(exist_ok=True)
            kinds[path] = kind
            if kind == "a named pipe":
                os.mkfifo(path)
            elif kind == "a socket":
                os.mknod(path, stat.S_IFSOCK | 0o600)
            else:
                path.symlink_to("/dev/zero")
    checked = subprocess.run(
        [sys.executable, "-m", "common.check", folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    *lines, total = checked.stdout.splitlines()
    assert checked.returncode == 1 and not checked.stderr
    assert sorted(lines) == sorted(
        f"{path}: not a regular file, but {kind}; move it away and run make again"
        for path, kind in kinds.items()
    )
    assert f"{len(kinds)} damaged or foreign" in total


@pytest.mark.parametrize("read", [files.read, models.load])
def test_a_folder_with_the_name_of_a_file_is_named(read, tmp_path):
    with pytest.raises(SystemExit) as refused:
        read(tmp_path)
    assert refused.value.code == (
        f"{tmp_path}: not a regular file, but a folder; move it away and run make again"
    )


def test_a_checkpoint_that_is_no_file_stops_before_hours_of_training(
    pack_file, tmp_path, monkeypatch
):
    (tmp_path / "resume.h5").mkdir()
    with pytest.raises(SystemExit, match="resume.h5: not a regular file, but a folder; move it"):
        run(monkeypatch, "train.adam", "--data", pack_file, "--out", tmp_path, *SHORT)


def test_weights_load_into_plain_torchvision(minimum):
    net = torchvision.models.resnet18(num_classes=5)
    net.load_state_dict(load_file(minimum / "weights.safetensors"), strict=True)
    ours, metadata = models.load(minimum / "weights.safetensors")
    images = torch.rand(2, 3, 32, 32)
    assert torch.allclose(net.eval()(images), ours.eval()(images), atol=1e-5)
    assert metadata["arch"] == "resnet18"
    assert len(metadata["classes"]) == 5 and metadata["image_size"] == 32


def test_damaged_weights_are_named(minimum, tmp_path):
    state = load_file(minimum / "weights.safetensors")
    path = tmp_path / "weights.safetensors"
    content = bytearray((minimum / "weights.safetensors").read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(SystemExit, match="damaged"):
        models.load(path)
    save_file(state, path)  # another project's
    with pytest.raises(SystemExit, match="not a minimum of ours .*; move it away and run make"):
        models.load(path)
    path.write_bytes(b"nothing")
    with pytest.raises(SystemExit, match="not a minimum of ours .*; move it away and run make"):
        models.load(path)


def test_a_minimum_of_other_data_is_refused(minimum, tmp_path, monkeypatch):
    other = make_pack(tmp_path / "other.h5", train=40)
    with pytest.raises(SystemExit, match="trained on other data"):
        flags = "--data", other, "--minimum", minimum, "--out", tmp_path / "p.h5"
        run(monkeypatch, "eval.battery", *flags, "clean")


def test_a_pack_that_does_not_fit_gives_the_same_batches(pack_file, pack, monkeypatch):
    monkeypatch.setattr(packs, "room", lambda device: 1)
    mapped = packs.load(pack_file, torch.device("cpu"))
    index = torch.tensor([5, 0, 149])
    assert pack.resident and not mapped.resident
    for ours, other in zip(mapped.batch(index), pack.batch(index)):
        assert torch.equal(ours, other)


def test_subsets_are_stratified_and_fixed(pack):
    index = pack.subset("test", 23)
    assert len(set(index.tolist())) == 23
    assert torch.equal(index, pack.subset("test", 23))
    assert torch.equal(index, index.sort().values)
    counts = torch.bincount(pack.labels[index], minlength=5)
    assert counts.max() - counts.min() <= 1
    assert set(index.tolist()) <= set(pack.indices("test").tolist())


def test_a_large_file_is_hashed_in_pieces_and_every_byte_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "PIECE", 1000)
    with files.write(tmp_path / "large.h5") as file:
        file["values"] = np.arange(1000)
    files.read(tmp_path / "large.h5").close()
    content = (tmp_path / "large.h5").read_bytes()
    for place in files.USER_BLOCK, files.USER_BLOCK + 1000, len(content) - 1:
        changed = bytearray(content)
        changed[place] ^= 1
        (tmp_path / "large.h5").write_bytes(changed)
        with pytest.raises(SystemExit, match="a byte changed"):
            files.read(tmp_path / "large.h5")


def no_locks(*_):
    """flock on a file system that has no locks."""
    raise OSError(errno.ENOLCK, "No locks available")


WRITER = """
import fcntl, sys
from common import files
def no_locks(*_):
    raise OSError(37, "No locks available")
if sys.argv[2] == "without locks":
    fcntl.flock = no_locks
with files.write(sys.argv[1]) as file:
    file["by"] = "the first"
    print("writing", flush=True)
    sys.stdin.readline()
"""


def begun_writing(path, locks="with locks", **environment):
    """A process that writes the file `path`, and finishes it when it is told to go on."""
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, path, locks],
        cwd=ROOT,
        env=os.environ | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout.readline() == "writing\n"
    return writer


@pytest.mark.parametrize("locks", ["with locks", "without locks"])
def test_of_two_writers_of_one_file_the_second_leaves_the_first_alone(locks, tmp_path, monkeypatch):
    first = begun_writing(tmp_path / "x.h5", locks)
    if locks == "without locks":
        monkeypatch.setattr(fcntl, "flock", no_locks)
    monkeypatch.setattr(parts, "PATIENCE", 0)
    said = "x.h5: .*process.* is writing this file; wait for it"
    with pytest.raises(SystemExit, match=said), files.write(tmp_path / "x.h5"):
        raise AssertionError("it began")
    assert first.communicate("go on\n", timeout=60) and first.returncode == 0
    with files.read(tmp_path / "x.h5") as file:
        assert file["by"].asstr()[()] == "the first"
    assert [path.name for path in tmp_path.iterdir()] == ["x.h5"]


@pytest.mark.parametrize("locks", ["with locks", "without locks"])
def test_a_part_that_a_kill_left_is_taken_over(locks, tmp_path, monkeypatch):
    killed = begun_writing(tmp_path / "x.h5", locks)
    killed.kill()
    killed.communicate(timeout=60)
    assert all(part.name.endswith(".part") for part in tmp_path.iterdir())
    assert not (tmp_path / "x.h5").exists()
    if locks == "without locks":
        monkeypatch.setattr(fcntl, "flock", no_locks)
    with files.write(tmp_path / "x.h5") as file:
        file["by"] = "the second"
    assert [path.name for path in tmp_path.iterdir()] == ["x.h5"]


def test_a_part_in_work_is_not_abandoned(tmp_path):
    with files.atomic(tmp_path / "x.txt") as part:
        part.write_text("whole")
        hidden = [part, parts.lock_of(part)]
        assert sorted(hidden) == sorted(tmp_path.iterdir())
        assert not any(map(parts.abandoned, hidden))
    assert [path.name for path in tmp_path.iterdir()] == ["x.txt"]
    killed = begun_writing(tmp_path / "y.h5")
    killed.kill()
    killed.communicate(timeout=60)
    assert sorted(path.name for path in tmp_path.glob(".*")) == [".y.h5.lock.part", ".y.h5.part"]
    for path in sorted(tmp_path.glob(".*")):
        assert parts.abandoned(path)
        path.unlink(missing_ok=True)
    assert [path.name for path in tmp_path.iterdir()] == ["x.txt"]


def test_without_locks_a_part_of_another_machine_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", no_locks)
    other = tmp_path / ".x.h5@another.machine@1.part"
    other.write_text("hours of work")
    with files.write(tmp_path / "x.h5") as file:
        file["a"] = 1
    assert other.read_text() == "hours of work" and not parts.abandoned(other)
    files.read(tmp_path / "x.h5").close()
    dead = tmp_path / f".y.h5@{platform.node()}@{2**22 + 1}.part"  # above any process's number
    dead.touch()
    with pytest.raises(RuntimeError), files.write(tmp_path / "y.h5"):
        raise RuntimeError
    assert sorted(path.name for path in tmp_path.iterdir()) == [other.name, "x.h5"]


def test_a_part_that_was_swept_and_begun_by_another_is_theirs(tmp_path):
    """Neither published half written, nor removed."""
    with pytest.raises(SystemExit, match="x.h5: cannot be written"):
        with files.atomic(tmp_path / "x.h5") as part:
            for hidden in tmp_path.iterdir():
                hidden.unlink()
            theirs = begun_writing(tmp_path / "x.h5")
    assert part.exists() and not (tmp_path / "x.h5").exists()
    theirs.communicate("go on\n", timeout=60)
    files.read(tmp_path / "x.h5").close()


def test_what_is_written_is_not_what_is_locked(tmp_path):
    """Windows' file servers let nobody write in a locked file, not even its locker elsewhere."""
    with files.atomic(tmp_path / "x") as part, open(part, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_library_may_put_another_file_in_place_of_the_part(tmp_path):
    """safetensors does: it writes beside, and renames."""
    with files.atomic(tmp_path / "x") as part:
        (tmp_path / "beside").write_text("whole")
        (tmp_path / "beside").rename(part)
    assert (tmp_path / "x").read_text() == "whole"
    with pytest.raises(RuntimeError), files.atomic(tmp_path / "y") as part:
        (tmp_path / "beside").write_text("half")
        (tmp_path / "beside").rename(part)
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_hdf5_s_own_locks_are_not_used_whatever_the_environment_says(tmp_path):
    writer = begun_writing(tmp_path / "x.h5", HDF5_USE_FILE_LOCKING="TRUE")
    writer.communicate("go on\n", timeout=60)
    assert writer.returncode == 0
    with open(tmp_path / "x.h5", "rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # a viewer's
        files.read(tmp_path / "x.h5").close()


VIEWER = """
import h5py, sys
file = h5py.File(sys.argv[1], "r+")
if sys.argv[2] == "changes it":
    file["loss"][0] = 7
    file.flush()
print("open", flush=True)
sys.stdin.readline()
"""


def viewed(path, does="looks"):
    """A process that holds a file open for writing."""
    viewer = subprocess.Popen(
        [sys.executable, "-c", VIEWER, path, does],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert viewer.stdout.readline() == "open\n"
    return viewer


@pytest.mark.parametrize("end", [None, signal.SIGKILL])
def test_a_file_that_a_viewer_has_open_is_whole_and_said_to_be_open(end, curves, capfd):
    before = curves.read_bytes()
    viewer = viewed(curves)
    if end:
        viewer.send_signal(end)
        viewer.wait()
    assert curves.read_bytes() != before
    with files.read(curves) as file:
        assert file["loss"][:].tolist() == [0, 0, 0]
    said = capfd.readouterr().err
    assert said.count("\n") == 1 and "curves.h5: whole, but marked as open for writing" in said
    assert "damaged" not in said and "move it" not in said
    viewer.communicate("\n", timeout=60)
    if end:
        h5py.File(curves, "r+").close()  # as the line says
    assert curves.read_bytes() == before


def test_a_file_that_a_viewer_changes_is_named_with_the_cause(curves):
    viewer = viewed(curves, "changes it")
    with pytest.raises(SystemExit, match="curves.h5: changed by another program that has it open"):
        files.read(curves)
    viewer.communicate("\n", timeout=60)
    with pytest.raises(SystemExit, match="damaged"):
        files.read(curves)


@pytest.mark.parametrize(
    "flock, said",
    [
        (
            "echo 'flock: 8: No locks available' >&2; exit 71",
            "-gpu-0: cannot be locked (No locks available); set TMPDIR to a folder on a disk of",
        ),
        (None, "gpu.sh: needs flock, of util-linux"),
    ],
)
def test_gpu_sh_tells_that_it_cannot_lock_from_busy(flock, said, tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in "bash", "id", "seq", "sleep":
        (tools / name).symlink_to(shutil.which(name))
    if flock:
        (tools / "flock").write_text(f"#!/bin/sh\n{flock}\n")
        (tools / "flock").chmod(0o755)
    tried = subprocess.run(
        ["bash", "common/gpu.sh", "1", "echo", "ran"],
        cwd=ROOT,
        env={"PATH": str(tools), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert tried.returncode == 1 and tried.stdout == ""
    assert tried.stderr.count("\n") == 1 and said in tried.stderr


@pytest.mark.parametrize("lacking", ["images", "split", "labels", "classes", "fingerprint", "kind"])
def test_a_pack_that_lacks_something_is_named(lacking, pack_file, tmp_path):
    """As one that somebody wrote by hand, with a fitting seal."""
    path = tmp_path / "pack.h5"
    with files.read(pack_file) as whole, files.write(path) as file:
        for name in set(whole) - {lacking}:
            whole.copy(name, file)
        file.attrs.update({name: value for name, value in whole.attrs.items() if name != lacking})
    with pytest.raises(SystemExit) as refused:
        packs.load(path, torch.device("cpu"))
    what = "" if lacking == "kind" else f" (it lacks {lacking})"
    assert refused.value.code == (
        f"{path}: not a pack of images{what}; make one with python -m common.images.prepare"
    )
