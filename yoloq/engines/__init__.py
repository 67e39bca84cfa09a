"""The table of engines. To add one: a file with an `Engine` row, and its name here."""

import importlib
import importlib.util

from yoloq.base.device import has_gpu
from yoloq.base.errors import EngineError
from yoloq.engines.base import PIP, Engine

ENGINES = {  # name -> module; imported when used, since each pulls in its runtime
    "openvino": "openvino",
    "onnxruntime": "onnxruntime",
    "tensorrt": "tensorrt",
    "torch": "torch",
}


def get_engine(name: str, device: str = "auto") -> Engine:
    """The engine of a name; `auto` is the fastest that is installed for this machine.

    Args:
        device: that it is wanted for.

    Raises:
        EngineError: the name is not known, it does not run on the device, or its package is
            missing.
    """
    engine = engine_row(name)
    if engine.check_device is not None:
        engine.check_device(device)
    if importlib.util.find_spec(engine.name) is None:
        install = engine.install or f"{PIP} {engine.name}"
        raise EngineError(f"--engine {engine.name}: its package is not installed; {install}")
    return engine


def engine_row(name: str) -> Engine:
    """What is known of an engine without its package, which another machine may have.

    Raises:
        EngineError: the name is not known.
    """
    if name == "auto":
        name = next(n for n in _by_speed() if importlib.util.find_spec(n) is not None)
    if name not in ENGINES:
        raise EngineError(f"--engine {name}: not one of auto, {', '.join(ENGINES)}")
    engine: Engine = importlib.import_module(f".{ENGINES[name]}", __package__).ENGINE
    return engine


def _by_speed() -> list[str]:
    """All names, the fastest first: TensorRT where torch sees an NVIDIA GPU, never elsewhere."""
    on_cpu = [name for name in ENGINES if name != "tensorrt"]
    return ["tensorrt", *on_cpu] if has_gpu() else on_cpu
