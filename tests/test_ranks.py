"""One run on several processes (gloo, CPU): the numbers are those of one process, and a rank that dies takes the job with it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
import torch
from conftest import ROOT, SHORT, make_pack, run

from common.training import processes

PYTHON = [sys.executable]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
FROZEN = ["-m", "tests.frozen", *SHORT, "--epochs", "3", "--lr", "1e-4"]


def torchrun(processes):
    """The command that starts what follows it on so many processes, as LAUNCH would."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return [
        *PYTHON,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        str(processes),
        "--master-addr",
        "127.0.0.1",
        "--master-port",
        str(port),
        "--no-python",
        *PYTHON,
    ]


def go(*command, timeout=120):
    """Runs to the end; (status, stdout, stderr)."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    return done.returncode, done.stdout, done.stderr


def arrays(path):
    """{path: array} of an HDF5 file, seconds apart."""
    found = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: (
                found.update({name: item[()]})
                if isinstance(item, h5py.Dataset) and "seconds" not in name
                else None
            )
        )
    return found


def same(one, other, tolerance=1e-6):
    """Asserts that two files' arrays agree to a relative tolerance."""
    a, b = arrays(one), arrays(other)
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_allclose(a[name], b[name], rtol=tolerance, atol=tolerance, err_msg=name)


@pytest.fixture(scope="module")
def alone(pack_file, tmp_path_factory):
    """The folder of the frozen run on one process."""
    folder = tmp_path_factory.mktemp("alone") / "frozen-0"
    assert go(*PYTHON, *FROZEN, "--data", pack_file, "--out", folder)[0] == 0
    return folder


@pytest.mark.parametrize("processes", [2, 3])  # 3 take 5, 5 and 6 of 16 images
def test_losses_are_those_of_one_process(processes, alone, pack_file, tmp_path):
    status, said, errors = go(
        *torchrun(processes), *FROZEN, "--data", pack_file, "--out", tmp_path / "frozen-0"
    )
    assert status == 0, errors
    assert said.count("epoch 1/3") == 1
    same(alone / "training.h5", tmp_path / "frozen-0" / "training.h5")
    assert sorted(path.name for path in (tmp_path / "frozen-0").iterdir()) == [
        "training.h5",
        "weights.safetensors",
    ]


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than 2 GPUs here")
def test_two_gpus_with_synchronised_batchnorm_train_as_one(pack_file, tmp_path):
    for launch in PYTHON, torchrun(2):
        status, _, errors = go(
            *launch,
            "-m",
            "train.adam",
            "--data",
            pack_file,
            "--out",
            tmp_path / str(len(launch)),
            "--device",
            "cuda",
            "--epochs",
            1,
            "--batch-size",
            16,
            "--train-images",
            20,
            "--precision",
            "float32",
            "--sync-batchnorm",
            timeout=300,
        )
        assert status == 0, errors
    one, two = (
        arrays(path / "training.h5")["running/loss"]
        for path in sorted(tmp_path.iterdir(), key=lambda path: len(path.name))
    )
    np.testing.assert_allclose(one, two, rtol=1e-3)


def test_a_killed_rank_ends_the_job_and_another_number_of_ranks_goes_on(alone, pack_file, tmp_path):
    out = tmp_path / "frozen-0"
    command = [*FROZEN, "--data", pack_file, "--out", out]
    with subprocess.Popen(
        [*torchrun(2), *map(str, command)],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as job:
        limit = time.monotonic() + 90
        while not (out / "resume.h5").exists():
            assert job.poll() is None and time.monotonic() < limit
            time.sleep(0.01)
        with open(f"/proc/{job.pid}/task/{job.pid}/children") as children:
            os.kill(int(children.read().split()[-1]), signal.SIGKILL)
        job.communicate(timeout=90)
        assert job.returncode != 0 and not (out / "weights.safetensors").exists()
    status, said, errors = go(*torchrun(3), *command)
    assert status == 0 and "continues after epoch" in said, errors
    same(alone / "training.h5", out / "training.h5")


SEVERAL = """
import json, runpy, sys
processes.end = processes.wait  # one group for all
for words in json.loads(sys.argv[1]):
    sys.argv = words
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)
"""


def test_finetuning_and_measuring_too(tmp_path, monkeypatch):
    """Images enough for several blocks, and several batches of BatchNorm's statistics."""
    pack_file, minimum, results = (
        make_pack(tmp_path / "pack.h5", train=600, test=300, size=16),
        tmp_path / "adam-0",
        [],
    )
    with monkeypatch.context() as patch:
        run(patch, "train.adam", *SHORT, "--epochs", 1, "--data", pack_file, "--out", minimum)
    for launch in PYTHON, torchrun(2):
        folder = tmp_path / str(len(launch))
        folder.mkdir()
        status, said, errors = go(
            *launch,
            "-c",
            SEVERAL,
            json.dumps(
                [
                    [
                        *words,
                        "--data",
                        str(pack_file),
                        "--device",
                        "cpu",
                        "--out",
                        str(folder / name),
                    ]
                    for name, *words in (
                        (
                            "passport.h5",
                            "eval.battery",
                            "--minimum",
                            str(minimum),
                            "--batchnorm-images",
                            "600",
                            "--precision",
                            "float32",
                            "clean",
                            "gaussian_noise",
                            "--gaussian-noise-levels",
                            "0,0.1",
                            "--gaussian-noise-repeats",
                            "1",
                            "local_energy",
                            "--local-energy-levels",
                            "0,0.2",
                            "--local-energy-repeats",
                            "1",
                            "hessian",
                            "--hessian-images",
                            "100",
                            "--hessian-iterations",
                            "2",
                            "--hessian-vectors",
                            "2",
                            "adaptive_sharpness",
                            "--adaptive-sharpness-images",
                            "256",
                            "--adaptive-sharpness-steps",
                            "2",
                            "--adaptive-sharpness-draws",
                            "2",
                        ),
                        (
                            "pair.h5",
                            "eval.pair",
                            "--minima",
                            str(minimum),
                            str(minimum),
                            "--images",
                            "300",
                            "--batchnorm-images",
                            "600",
                            "--points",
                            "2",
                        ),
                        (
                            "finetune-full.h5",
                            "finetune.full",
                            "--minimum",
                            str(minimum),
                            "--epochs",
                            "1",
                            "--runs",
                            "2",
                            "--batch-size",
                            "60",
                            "--precision",
                            "float32",
                        ),
                    )
                ]
            ),
        )
        assert status == 0, errors
        results.append(folder)
    same(results[0] / "passport.h5", results[1] / "passport.h5", 1e-4)
    same(results[0] / "pair.h5", results[1] / "pair.h5", 1e-4)
    one, two = (arrays(folder / "finetune-full.h5") for folder in results)
    assert two["train/loss"].shape == (2, 2)  # from here on each process normalises its own images
    np.testing.assert_allclose(one["train/loss"][:, 0], two["train/loss"][:, 0], rtol=1e-5)
    assert not [
        path.name for path in results[1].iterdir() if "part" in path.name or "resume" in path.name
    ]


def test_what_cannot_be_is_one_line(pack_file, tmp_path):
    for flags, message in (
        (["--sync-batchnorm"], "PyTorch has it on GPUs alone"),
        (["--batch-size", 1], "fewer images than the 2 processes"),
    ):
        status, said, errors = go(
            *torchrun(2), *FROZEN, "--data", pack_file, "--out", tmp_path / "x-0", *flags
        )
        assert (
            status != 0
            and message in errors
            and 'Traceback (most recent call last):\n  File "/work' not in errors
        )


def test_more_processes_than_gpus_is_one_line(monkeypatch):
    monkeypatch.setattr(processes, "WORLD", 4)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    with pytest.raises(SystemExit, match="--nproc-per-node 4: more processes than the 2 GPUs"):
        processes.start("cuda")


def test_scripts_for_one_process_run_once(pack_file, tmp_path):
    status, said, errors = go(*torchrun(2), "-m", "common.check", pack_file)
    assert status == 0 and said.count("1 file") == 1, (said, errors)


def test_statistics_over_ranks_are_those_of_one(tmp_path):
    program = """
import sys, torch
from common import devices
from common.images import packs
from common.networks import batchnorm, models
from common.training import processes
pack = packs.load(sys.argv[1], devices.choose("cpu"))
net = torch.nn.SyncBatchNorm.convert_sync_batchnorm(models.build("resnet18", 5, 0))
batchnorm.recompute(net, pack, pack.indices("train"), batch_size=16)  # 4 batches of 16 and one of 6
if processes.FIRST:
    torch.save([value for value in net.buffers() if value.is_floating_point()], sys.argv[2])
processes.end()
"""
    pack = make_pack(tmp_path / "pack.h5")
    for launch in PYTHON, torchrun(2):
        status, _, errors = go(*launch, "-c", program, pack, tmp_path / str(len(launch)))
        assert status == 0, errors
    one, two = (
        torch.load(path, weights_only=True)
        for path in sorted(tmp_path.iterdir(), key=lambda path: len(path.name))
        if path.name.isdigit()
    )
    assert len(one) == 40
    for a, b in zip(one, two):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_each_recipe_has_a_gpu_of_its_own(tmp_path):
    """Six commands on two devices: never two at once on one; a killed one frees its device."""
    claim = "mkdir {0}/busy-$CUDA_VISIBLE_DEVICES; sleep 0.3; rmdir {0}/busy-$CUDA_VISIBLE_DEVICES; echo $CUDA_VISIBLE_DEVICES".format(
        tmp_path
    )
    environment = os.environ | {"TMPDIR": str(tmp_path), "CUDA_VISIBLE_DEVICES": "3,5,7"}

    def start(command):
        return subprocess.Popen(
            ["bash", "common/gpu.sh", "2", "sh", "-ec", command],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )

    held = start("echo $CUDA_VISIBLE_DEVICES; exec sleep 60")
    assert held.stdout.readline() == "3\n"
    held.kill()
    held.communicate(timeout=30)
    said = [
        (job.communicate(timeout=30)[0], job.returncode) for job in [start(claim) for _ in range(6)]
    ]
    assert {status for _, status in said} == {0} and {own for own, _ in said} == {"3\n", "5\n"}


def test_make_gives_each_recipe_its_gpu_and_its_launcher():
    asked = subprocess.run(
        [
            "make",
            "-n",
            "all",
            "PROFILE=smoke",
            "A=/nowhere",
            "GPUS=8",
            "LAUNCH=echo",
            "PYTHON=python",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    commands = [line for line in asked.stdout.splitlines() if " -m " in line]
    assert len(commands) > 10 and all(
        line.startswith("bash common/gpu.sh 8 echo python -m ") for line in commands
    ), asked
