"""Device, precision and randomness: what every script decides the same way."""

import os
import platform
from contextlib import contextmanager

import torch


def flags(parser):
    """The flags that say where and how a script computes."""
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


def choose(name="auto", deterministic=False):
    """torch.device for "auto" (a GPU where there is one), "cpu" or "cuda"."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise SystemExit(
            "--device cuda: PyTorch sees no GPU here; use --device cpu, or start the container with --gpus all"
        )
    # Measurements live on differences smaller than TF32's 10 bits of mantissa; training uses autocast, which does not need it.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = (
        not deterministic
    )  # shapes stay the same: the fastest convolution is looked for once
    torch.use_deterministic_algorithms(deterministic)
    if deterministic:
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = (
            ":4096:8"  # what cuBLAS needs for it; read when a GPU is first used
        )
    return torch.device(name)


def training_dtype(device, name="auto"):
    """The autocast type of training: bfloat16 where the hardware has it, float16 on older GPUs, else float32."""
    if name != "auto":
        return getattr(torch, name)
    if device.type == "cuda":
        return (
            torch.bfloat16
            if torch.cuda.is_bf16_supported(including_emulation=False)
            else torch.float16
        )
    return (
        torch.bfloat16
        if torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
        else torch.float32
    )


def measuring_dtype(device, name="auto"):
    """The type of forward passes that are measured: float16 on a GPU, where it agrees with float32 (`python -m tests.precision`), else float32."""
    return (
        getattr(torch, name)
        if name != "auto"
        else torch.float16
        if device.type == "cuda"
        else torch.float32
    )


def autocast(device, dtype):
    """A block whose layers compute in `dtype`; float32: as they are."""
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


@contextmanager
def memory(images):
    """A block in which running out of memory is one line that names --batch-size."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(
            error, MemoryError | torch.OutOfMemoryError
        ) and "allocate memory" not in str(error):
            raise
        raise SystemExit(
            f"--batch-size {images}: the device's memory does not suffice; give a smaller one"
        ) from None


def describe(device, dtype=torch.float32):
    """One line for the results' `device` attribute: hardware, threads, precision."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, {str(dtype)[6:]}"
    name = platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as lines:
            name = next(
                (line.split(":")[1].strip() for line in lines if line.startswith("model name")),
                name,
            )
    return f"{name} ({torch.backends.cpu.get_cpu_capability()}), {torch.get_num_threads()} threads, {str(dtype)[6:]}"
