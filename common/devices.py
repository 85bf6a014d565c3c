"""Device and precision: what every script decides the same way."""

import argparse
import os
import platform
from contextlib import contextmanager
from pathlib import Path

import torch


def flags(parser: argparse.ArgumentParser):
    """Adds the flags that say where and how a script computes."""
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument(
        "--deterministic",
        action="store_true",
        help="on a GPU, the same bits at every run, more slowly (a CPU always gives them)",
    )
    parser.add_argument(
        "--no-compile",
        action="store_true",
        help="on a GPU, no torch.compile and no CUDA graph (a CPU never does)",
    )


def choose(name: str = "auto", deterministic: bool = False) -> torch.device:
    """The device for "auto" (a GPU where there is one), "cpu" or "cuda", and PyTorch set up for it.

    SystemExit where "cuda" is asked for and there is none.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise SystemExit(
            "--device cuda: PyTorch sees no GPU here; use --device cpu, or start the container "
            "with --gpus all"
        )
    # Measurements live on differences smaller than TF32's 10 bits of mantissa; training uses
    # autocast, which does not need it.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    # Shapes stay the same: cuDNN looks for the fastest convolution once.
    torch.backends.cudnn.benchmark = not deterministic
    torch.use_deterministic_algorithms(deterministic)
    if deterministic:
        # What cuBLAS needs for it; read when a GPU is first used.
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    return torch.device(name)


def training_dtype(device: torch.device, name: str = "auto") -> torch.dtype:
    """The autocast type of training: bfloat16 where the hardware has it and is faster with it, else
    float16 on a GPU and float32 on a CPU.
    """
    if name != "auto":
        return getattr(torch, name)
    if device.type == "cuda":
        has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if has_bfloat16 else torch.float16
    return torch.bfloat16 if _cpu_is_faster_in_bfloat16() else torch.float32


def _cpu_is_faster_in_bfloat16() -> bool:
    """With AMX, and with AVX-512 on AMD. Intel's AVX-512 alone, as where a virtual machine hides
    AMX, multiplies bfloat16 no faster than float32, and the conversions come on top.
    """
    if torch.cpu._is_amx_tile_supported():
        return True
    is_amd = "AMD" in (_cpuinfo("vendor_id") or platform.processor())
    return is_amd and torch.cpu._is_avx512_bf16_supported()


def measuring_dtype(device: torch.device, name: str = "auto") -> torch.dtype:
    """The type of forward passes that are measured: float16 on a GPU, where it agrees with float32
    (`python -m tests.precision`), else float32.
    """
    if name != "auto":
        return getattr(torch, name)
    return torch.float16 if device.type == "cuda" else torch.float32


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """A block whose layers compute in `dtype`; float32: as they are."""
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


@contextmanager
def explain_out_of_memory(images: int):
    """A block in which running out of memory is one line that names --batch-size (`images`)."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        kinds = MemoryError | torch.OutOfMemoryError
        if not isinstance(error, kinds) and "allocate memory" not in str(error):
            raise
        raise SystemExit(
            f"--batch-size {images}: the device's memory does not suffice; give a smaller one"
        ) from None


def describe(device: torch.device, dtype: torch.dtype = torch.float32) -> str:
    """One line for the results' `device` attribute: hardware, threads, precision."""
    precision = str(dtype).removeprefix("torch.")
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, {precision}"
    capability, threads = torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()
    return f"{_processor()} ({capability}), {threads} threads, {precision}"


def _processor() -> str:
    """The CPU's name: Linux's, or the machine's architecture."""
    return _cpuinfo("model name") or platform.machine()


def _cpuinfo(key: str) -> str:
    """What Linux says of the first CPU; "" where it says nothing."""
    path = Path("/proc/cpuinfo")
    for line in path.read_text().splitlines() if path.exists() else []:
        if line.startswith(key):
            return line.split(":")[1].strip()
    return ""
