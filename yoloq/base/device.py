"""Which device a stage runs on."""

import warnings

import torch

from yoloq.base.errors import EngineError


def torch_device(name: str) -> torch.device:
    """`auto` is the first GPU where there is one, else the CPU.

    Raises:
        EngineError: the device is not there, or its name is not one of torch's.
    """
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
            raise EngineError(
                f"--device {name}: this machine has {count} CUDA devices; use --device cpu"
            )
    elif device.type != "cpu":
        raise EngineError(f"--device {name}: use cpu, cuda, cuda:N or auto")
    return device


def has_gpu() -> bool:
    """Whether torch can use an NVIDIA GPU."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a driver that is too old
        return torch.cuda.is_available()
