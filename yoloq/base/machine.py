"""The machine: its device, processor, cores and memory, and the versions that figures depend on."""

import contextlib
import ctypes
import os
import platform
import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yoloq.base.errors import EngineError

if TYPE_CHECKING:
    import torch

PACKAGES = (  # of every figure; an engine adds its own
    *("yoloq", "torch", "ultralytics", "numpy", "opencv-python", "pycocotools"),
)
ISA_FLAGS = (  # as Linux names them
    "avx2",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_bf16",
    "amx_int8",
)
CPUINFO = Path("/proc/cpuinfo")
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
LARGEST = 2**31 - 1
NO_MEMORY = (  # as torch, C++, Python's threads, ONNX Runtime, OpenCV and oneDNN say it
    *("DefaultCPUAllocator: ", "bad_alloc", "bad allocation", "can't start new thread"),
    *("Failed to allocate memory", "Insufficient memory", "could not create a primitive"),
)


def torch_device(name: str) -> "torch.device":
    """`auto` is the first GPU where there is one, else the CPU.

    Raises:
        EngineError: the device is not there, or its name is not one of torch's.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = f"cuda:{name}" if name.isdigit() else name  # YOLOv5's way to name a GPU
    try:
        device = torch.device(name)
    except RuntimeError:
        raise EngineError(f"--device {name}: not a device; use cpu, cuda, cuda:N or auto") from None
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            reason = f"this machine has {count} CUDA devices" if count else why_no_gpu()
            raise EngineError(f"--device {name}: {reason}; use --device cpu")
    elif device.type != "cpu":
        raise EngineError(f"--device {name}: use cpu, cuda, cuda:N or auto")
    return device


def has_gpu() -> bool:
    """Whether torch can use an NVIDIA GPU."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a driver that is too old
        return torch.cuda.is_available()


def why_no_gpu(driver: str = "") -> str:
    """What keeps torch from an NVIDIA GPU, and what mends it, in one line.

    Args:
        driver: which one is needed, where torch's own need is not all.
    """
    import torch

    if torch.version.cuda is None:
        return "this torch is built without CUDA; install one with CUDA (pytorch.org)"
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).split(". ")[0].split())
        if "too old" in reason:
            return f"{reason}; update it{driver}"
        return f"torch cannot use an NVIDIA GPU ({reason})"
    return "torch sees no NVIDIA GPU"


def environment(
    device: str = "auto", packages: Mapping[str, Sequence[str]] | None = None
) -> dict[str, Any]:
    """Versions and machine data as JSON types; a package that is not installed is None.

    `isa` lists those of `ISA_FLAGS` that the processor has; empty where the system does not tell.
    `gpu` names the GPU that a stage with that device uses; None where it uses none.

    Args:
        packages: of the engines: name -> the distributions that it may come from.

    Raises:
        EngineError: the device is not there.
    """
    import torch

    used = torch_device(device)
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "versions": versions(packages or {}),
        "cpu": cpu_model(),
        "isa": isa_flags(),
        "gpu": torch.cuda.get_device_name(used) if used.type == "cuda" else None,
        "threads": torch.get_num_threads(),
        "affinity": affinity(),
    }


def versions(packages: Mapping[str, Sequence[str]]) -> dict[str, str | None]:
    """Versions of `PACKAGES` and of the given ones, without importing any."""
    own = {name: (name,) for name in PACKAGES}
    return {name: installed_version(*found) for name, found in {**own, **packages}.items()}


def installed_version(*distributions: str) -> str | None:
    """Version of the first of some distributions that is installed; None: none is."""
    for distribution in distributions:
        with contextlib.suppress(PackageNotFoundError):
            return version(distribution)
    return None


def cpu_model() -> str:
    """The processor's name."""
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


def isa_flags() -> list[str]:
    """Those of `ISA_FLAGS` that the processor has."""
    present = _cpuinfo().get("flags", "").split()
    return [flag for flag in ISA_FLAGS if flag in present]


def has_fast_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 in hardware (AMX or AVX512-BF16)."""
    return bool({"amx_bf16", "avx512_bf16"} & set(isa_flags()))


def has_vnni() -> bool:
    """Whether the processor adds up int8 products in 32 bits (VNNI, or AMX which implies it)."""
    return bool({"avx_vnni", "avx512_vnni", "amx_int8"} & set(isa_flags()))


def is_x86_without_amx() -> bool:
    """Whether int8 products are of unsigned by signed bytes: AMX multiplies signed ones as well."""
    return platform.machine().lower() in ("x86_64", "amd64") and "amx_int8" not in isa_flags()


def affinity() -> list[int]:
    """Numbers of the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _cpuinfo() -> dict[str, str]:
    """Fields of the first processor; empty where there is no such file."""
    if not CPUINFO.is_file():
        return {}
    first = CPUINFO.read_text(encoding="utf-8").split("\n\n")[0]
    pairs = (line.split(":", 1) for line in first.splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, value in pairs}


def keep_freed_memory() -> None:
    """Let freed memory serve the next tensor; does nothing with another C library than glibc.

    glibc maps every block above 32 MB anew and clears it page by page. Activations of a batch are
    that large: on a CPU the page faults took a third of a forward pass in PyTorch.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_THRESHOLD, 2**30)
    libc.mallopt(M_TRIM_THRESHOLD, LARGEST)


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that the machine or the GPU has no more memory.

    Of a CPU's torch raises a RuntimeError like any other, and engines raise what they have.
    """
    torch = sys.modules.get("torch")  # an error of torch's says that it is imported
    return (
        isinstance(error, MemoryError)
        or (torch is not None and isinstance(error, torch.OutOfMemoryError))
        or any(text in str(error) for text in NO_MEMORY)
    )


def raise_memory(error: Exception) -> None:
    """Raise an error again that says that memory is short: then nothing is damaged."""
    if is_out_of_memory(error):
        raise error
