"""Several processes for one pretraining run, as torchrun starts them (DistributedDataParallel).

Each takes its rows of every batch, and rank 0 writes. Before `start`, and with one process, every
function here is the identity. Nothing outside pretraining runs on more than one process.
"""

import ctypes
import os
import signal
import sys
import warnings

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from common.networks import batchnorm

RANK, WORLD = 0, 1  # this process, and how many there are; `start` sets them


def start(kind: str):
    """Joins the other processes, on a GPU of its own ("cuda") or on the CPU.

    Only rank 0 is heard on stdout. SystemExit where there are more processes than GPUs.
    """
    global RANK, WORLD
    if "MASTER_ADDR" not in os.environ or distributed.is_initialized():
        return
    RANK, WORLD = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if WORLD == 1:
        return
    if kind == "cuda":
        local, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", 1)), torch.cuda.device_count()
        if local > gpus:
            raise SystemExit(
                f"--nproc-per-node {local}: more processes than the {gpus} GPUs of this machine"
            )
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)) % gpus)
    if sys.platform == "linux":
        # PR_SET_PDEATHSIG: a launcher that is killed leaves nobody behind.
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)
    distributed.init_process_group("nccl" if kind == "cuda" else "gloo")
    if not first():
        sys.stdout = open(os.devnull, "w")


def end():
    """Waits until rank 0 has written, and leaves the others."""
    if WORLD > 1:
        distributed.barrier()
        distributed.destroy_process_group()


def first() -> bool:
    """Whether this process is the one that prints and writes."""
    return RANK == 0


def rows(count: int) -> slice:
    """This process's slice of `count` things in a row; slices differ by one at most."""
    return slice(count * RANK // WORLD, count * (RANK + 1) // WORLD)


def mine(things: list) -> list:
    """Every WORLD-th of `things`, from RANK on."""
    return things[RANK::WORLD]


def total(tensor: torch.Tensor) -> torch.Tensor:
    """`tensor`, which becomes its sum over all processes, in place."""
    if WORLD > 1:
        distributed.all_reduce(tensor)
    return tensor


def least(tensor: torch.Tensor) -> torch.Tensor:
    """`tensor`, which becomes its minimum over all processes, in place."""
    if WORLD > 1:
        distributed.all_reduce(tensor, distributed.ReduceOp.MIN)
    return tensor


def synchronise_batchnorm(model: nn.Module, kind: str) -> nn.Module:
    """`model` whose BatchNorm layers normalise over the whole batch, not each process's rows."""
    if WORLD == 1:
        return model
    if kind == "cpu":
        raise SystemExit("--sync-batchnorm: PyTorch has it on GPUs alone; leave it out on a CPU")
    return nn.SyncBatchNorm.convert_sync_batchnorm(model)


def average_gradients(model: nn.Module) -> nn.Module:
    """`model`, whose backward passes leave the mean of all processes' gradients.

    Its buffers stay each process's own.
    """
    if WORLD == 1:
        return model
    warnings.filterwarnings("ignore", "Grad strides")  # 1x1 convolutions: their two layouts are one
    net = DistributedDataParallel(model)
    net.broadcast_buffers = False
    return net


@torch.no_grad()
def average_statistics(model: nn.Module, share: float):
    """The statistics of BatchNorm layers in train mode become their mean over all processes.

    Each process has seen its `share` of the images.
    """
    if WORLD == 1:
        return
    for layer in batchnorm.layers(model):
        if layer.training:
            total(layer.running_mean.mul_(share))
            total(layer.running_var.mul_(share))
