"""One run on several processes, as torchrun starts them: each takes its part of every batch and of what is measured, and rank 0 writes.

With one process every function here is the identity.
"""

import ctypes
import os
import signal
import sys
import warnings

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

RANK, WORLD = (
    int(os.environ.get(name, default)) if "MASTER_ADDR" in os.environ else default
    for name, default in (("RANK", 0), ("WORLD_SIZE", 1))
)
FIRST = RANK == 0


def start(kind):
    """Joins the other processes, on a GPU of its own ("cuda") or on the CPU; only rank 0 is heard on stdout."""
    if WORLD == 1 or distributed.is_initialized():
        return
    if kind == "cuda":
        if int(os.environ.get("LOCAL_WORLD_SIZE", 1)) > torch.cuda.device_count():
            raise SystemExit(
                f"--nproc-per-node {os.environ['LOCAL_WORLD_SIZE']}: more processes than the {torch.cuda.device_count()} GPUs of this machine"
            )
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(
            1, signal.SIGTERM
        )  # PR_SET_PDEATHSIG: a launcher that is killed leaves nobody behind
    distributed.init_process_group("nccl" if kind == "cuda" else "gloo")
    if not FIRST:
        sys.stdout = open(os.devnull, "w")


def end():
    """Waits until rank 0 has written, and leaves the others."""
    if WORLD > 1:
        distributed.barrier()
        distributed.destroy_process_group()


def wait():
    """Returns when all processes are here."""
    if WORLD > 1:
        distributed.barrier()


def part(count):
    """This process's slice of `count` things in a row; parts differ by one at most."""
    return slice(count * RANK // WORLD, count * (RANK + 1) // WORLD)


def total(tensor):
    """`tensor`, which becomes its sum over all processes, in place."""
    if WORLD > 1:
        distributed.all_reduce(tensor)
    return tensor


def averaging(model):
    """`model`, whose backward passes leave the mean of all processes' gradients; its buffers stay each process's own."""
    if WORLD == 1:
        return model
    warnings.filterwarnings("ignore", "Grad strides")  # 1x1 convolutions: their two layouts are one
    net = DistributedDataParallel(model)
    net.broadcast_buffers = False
    return net


def least(tensor):
    """`tensor`, which becomes its minimum over all processes, in place."""
    if WORLD > 1:
        distributed.all_reduce(tensor, distributed.ReduceOp.MIN)
    return tensor


def spread(function, things, device="cpu"):
    """[function(thing), …], numbers: each is found by one process and known to all."""
    found = torch.zeros(len(things), dtype=torch.float64, device=device)
    for place in range(RANK, len(things), WORLD):
        found[place] = function(things[place])
    return total(found).tolist()


@torch.no_grad()
def average_statistics(layers, share):
    """BatchNorm's statistics become the mean over all processes, each of which has seen its `share` of the images."""
    for layer in layers:
        for value in layer.running_mean, layer.running_var:
            total(value.mul_(share))
