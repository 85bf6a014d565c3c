"""One run on several processes (gloo, CPU): the numbers are those of one process, and a rank that
dies takes the job with it.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from compare import values
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


def same(one, other, tolerance=1e-6):
    """Asserts that two files' arrays agree to a relative tolerance."""
    a, b = values(one), values(other)
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_allclose(a[name], b[name], rtol=tolerance, atol=tolerance, err_msg=name)


@pytest.fixture(scope="module")
def alone(pack_file, tmp_path_factory):
    """The folder of the frozen run on one process."""
    folder = tmp_path_factory.mktemp("alone") / "frozen-0"
    assert go(*PYTHON, *FROZEN, "--data", pack_file, "--out", folder)[0] == 0
    return folder


@pytest.mark.parametrize("count", [2, pytest.param(3, marks=pytest.mark.full)])
def test_losses_are_those_of_one_process(count, alone, pack_file, tmp_path):
    status, said, errors = go(
        *torchrun(count), *FROZEN, "--data", pack_file, "--out", tmp_path / "frozen-0"
    )
    assert status == 0, errors
    assert said.count("epoch 1/3") == 1
    same(alone / "training.h5", tmp_path / "frozen-0" / "training.h5")
    assert sorted(path.name for path in (tmp_path / "frozen-0").iterdir()) == [
        "training.h5",
        "weights.safetensors",
    ]


# Runs a script of train/ whose BatchNorm keeps its first statistics, as tests/frozen.py does.
WITH_FROZEN_BATCHNORM = """
import runpy, sys
from common.networks import batchnorm
from common.training import pretraining
start = pretraining.start

def frozen(args, method_file):
    run = start(args, method_file)
    for layer in batchnorm.layers(run.model):
        layer.eval().train = lambda mode=True: None
    return run

pretraining.start = frozen
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "method, flags", [("sam", ["--rho", "0.1"]), ("noisy_weights", ["--sigma", "0.1"])]
)
def test_methods_that_move_weights_move_them_alike_on_every_process(method, flags, tmp_path):
    """Two backward passes a step, or two forward passes and one backward pass.

    One step: later, rounding tips a ReLU, and a step up makes much of that. If each process took a
    step up of its own, losses would differ by 2 %.
    """
    pack_file = make_pack(tmp_path / "pack.h5", train=16)
    command = ["-c", WITH_FROZEN_BATCHNORM, f"train.{method}", *SHORT, "--epochs", "1", *flags]
    for launch, name in (PYTHON, "one"), (torchrun(2), "two"):
        status, _, errors = go(*launch, *command, "--data", pack_file, "--out", tmp_path / name)
        assert status == 0, errors
    same(tmp_path / "one" / "training.h5", tmp_path / "two" / "training.h5", tolerance=1e-4)


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
        values(path / "training.h5")["running/loss"]
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
    status, said, errors = go(*torchrun(3), *command)  # of 16 images they take 5, 5 and 6
    assert status == 0 and "continues after epoch" in said, errors
    same(alone / "training.h5", out / "training.h5")


SCRIPTS_IN_TURN = """
import json, runpy, sys
for words in json.loads(sys.argv[1]):
    sys.argv = words
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)
"""


@pytest.mark.slow
def test_what_measures_compares_and_finetunes_runs_whole_on_rank_0(pack_file, minimum, tmp_path):
    """Under torchrun it is done once, and gives the bits of one process."""
    commands = {
        "passport.h5": f"eval.battery --minimum {minimum} clean "
        "hessian --hessian-images 50 --hessian-iterations 1 --hessian-vectors 1",
        "line.h5": f"eval.line --minima {minimum} {minimum} --points 2",
        "full.h5": f"finetune.full --minimum {minimum} --epochs 1 --runs 2 --batch-size 16",
    }
    for name, launch in ("one", PYTHON), ("two", torchrun(2)):
        folder = tmp_path / name
        folder.mkdir()
        flags = ["--data", str(pack_file), "--device", "cpu", "--precision", "float32", "--out"]
        scripts = [[*words.split(), *flags, str(folder / file)] for file, words in commands.items()]
        scripts.append(["common.check", *(str(folder / file) for file in commands)])
        status, said, errors = go(*launch, "-c", SCRIPTS_IN_TURN, json.dumps(scripts))
        # SystemExit is how common.check ends: with 0, as no file is damaged.
        assert status == 0 and said.count("3 of 3 files are whole, 0 damaged or foreign") == 1, (
            errors
        )
        assert said.count("adam-0 clean:") == 1 and said.count("run 2/2 epoch 1/1") == 1, said
        assert sorted(path.name for path in folder.iterdir()) == sorted(commands)
    for file in commands:
        same(tmp_path / "one" / file, tmp_path / "two" / file, tolerance=0)


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--sync-batchnorm"], "PyTorch has it on GPUs alone"),
        (["--batch-size", 1], "fewer images than the 2 processes"),
    ],
)
def test_what_cannot_be_is_one_line(flags, message, pack_file, tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "WORLD", 2)
    with pytest.raises(SystemExit, match=message):
        run(monkeypatch, "tests.frozen", "--data", pack_file, "--out", tmp_path, *SHORT, *flags)


def test_more_processes_than_gpus_is_one_line(monkeypatch):
    monkeypatch.setattr(processes, "WORLD", 1)  # put back: start sets it
    monkeypatch.setattr(processes, "RANK", 0)
    for name, value in ("MASTER_ADDR", "localhost"), ("WORLD_SIZE", "4"), ("RANK", "0"):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    with pytest.raises(SystemExit, match="--nproc-per-node 4: more processes than the 2 GPUs"):
        processes.start("cuda")


@pytest.mark.slow
def test_batchnorm_statistics_are_averaged_by_each_process_s_share(tmp_path):
    """3 processes with 5, 5 and 6 of 16 images; rank r has seen a mean of r and a variance of 2r.

    A layer in eval mode keeps its own.
    """
    program = """
import sys, torch
from common.training import processes
processes.start("cpu")
net = torch.nn.Sequential(torch.nn.BatchNorm2d(1), torch.nn.BatchNorm2d(1).eval())
rows = processes.rows(16)
for layer in net:
    layer.running_mean.fill_(processes.RANK)
    layer.running_var.fill_(2 * processes.RANK)
processes.average_statistics(net, (rows.stop - rows.start) / 16)
print(processes.RANK, *(value.item() for value in net.buffers() if value.is_floating_point()))
processes.end()
"""
    status, said, errors = go(*torchrun(3), "-c", program)
    assert status == 0, errors
    mean = (0 * 5 + 1 * 5 + 2 * 6) / 16
    assert said.split() == ["0", *map(str, (mean, 2 * mean, 0.0, 0.0))]  # rank 0 alone is heard


def test_each_recipe_has_a_gpu_of_its_own(tmp_path):
    """Six commands on two devices: never two at once on one; a killed one frees its device."""
    busy = f"{tmp_path}/busy-$CUDA_VISIBLE_DEVICES"
    claim = f"mkdir {busy}; sleep 0.3; rmdir {busy}; echo $CUDA_VISIBLE_DEVICES"
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
            f"PYTHON={sys.executable}",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    commands = [line for line in asked.stdout.splitlines() if " -m " in line]
    assert len(commands) > 10 and all(
        f" bash common/gpu.sh 8 echo '{sys.executable}' -m " in line for line in commands
    ), asked


@pytest.mark.parametrize("given", ["MIG-GPU-8f3b/1/0", "GPU-8f3b, 1", "7"])
def test_any_name_of_a_device_will_do(given, tmp_path):
    done = on_one_gpu(given, tmp_path)
    assert done.stdout == f"{given.partition(',')[0]}\n", done.stderr


@pytest.mark.parametrize("given", ["", "-1", " "])
def test_where_no_device_is_visible_that_is_said(given, tmp_path):
    done = on_one_gpu(given, tmp_path)
    assert done.returncode == 1 and done.stderr == (
        f"GPUS=1, but CUDA_VISIBLE_DEVICES={given} leaves no GPU; leave GPUS out, or unset it\n"
    )


def on_one_gpu(given, tmp_path):
    """What becomes of a command on one of the devices that CUDA_VISIBLE_DEVICES names."""
    return subprocess.run(
        ["bash", "common/gpu.sh", "1", "sh", "-c", "echo $CUDA_VISIBLE_DEVICES"],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(tmp_path), "CUDA_VISIBLE_DEVICES": given},
        capture_output=True,
        text=True,
    )
