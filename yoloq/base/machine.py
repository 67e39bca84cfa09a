"""What a measured figure depends on: versions, processor, instruction sets, threads."""

import contextlib
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "yoloq",
    "torch",
    "ultralytics",
    "numpy",
    "opencv-python",
    "onnx",
    "onnxruntime",
    "openvino",
    "tensorrt",
    "pycocotools",
    "faster-coco-eval",
)
DISTRIBUTIONS = {"tensorrt": ("tensorrt", "tensorrt-cu13", "tensorrt-cu12")}  # of one package
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


def environment(device: str = "auto") -> dict[str, Any]:
    """Versions and machine data as JSON types; a package that is not installed is None.

    `isa` lists those of `ISA_FLAGS` that the processor has; empty where the system does not tell.
    `gpu` names the GPU that a stage with that device uses; None where it uses none.

    Raises:
        EngineError: the device is not there.
    """
    import torch

    from yoloq.base.device import torch_device

    used = torch_device(device)
    fields = _cpuinfo()
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "versions": {package: installed_version(package) for package in PACKAGES},
        "cpu": fields.get("model name") or platform.processor() or platform.machine(),
        "isa": isa_flags(),
        "gpu": torch.cuda.get_device_name(used) if used.type == "cuda" else None,
        "threads": torch.get_num_threads(),
        "affinity": affinity(),
    }


def installed_version(package: str) -> str | None:
    """Version of an installed package, without importing it."""
    for distribution in DISTRIBUTIONS.get(package, (package,)):
        with contextlib.suppress(PackageNotFoundError):
            return version(distribution)
    return None


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
