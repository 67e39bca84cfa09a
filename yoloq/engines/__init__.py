"""The table of engines. To add one: a file with an `Engine` row, and its name here."""

import importlib
from typing import TYPE_CHECKING

from yoloq.base.errors import EngineError
from yoloq.base.machine import has_gpu
from yoloq.base.own_files import MAKE

if TYPE_CHECKING:
    from yoloq.engines.base import Engine

PIP = ".venv/bin/pip install"
# names of modules here with a row; each imports its runtime only when it builds or loads
ENGINES = ("openvino", "onnxruntime", "tensorrt", "tensorrt-rtx", "litert", "ncnn", "torch")


def get_engine(name: str, device: str = "auto", run: bool = True) -> "Engine":
    """The engine of a name; `auto` is the fastest that is installed for this machine.

    Args:
        device: that it is wanted for.
        run: it is to be run, not only to build.

    Raises:
        EngineError: the name is not known, it does not run on the device, or its package is
            missing.
    """
    engine = engine_row(name)
    if engine.compiler is not None:
        engine.compiler.check_device(device)
    if not engine.is_installed:
        install = engine.install or f"{PIP} {engine.name}"
        raise EngineError(f"--engine {engine.name}: its package is not installed; {install}")
    if run and (why := engine.cannot_run(device)):
        remedy = f"{MAKE} engine ENGINE={engine.name} builds its files all the same"
        raise EngineError(f"--engine {engine.name}: {why}; {remedy}")
    return engine


def engine_row(name: str) -> "Engine":
    """What is known of an engine without its package, which another machine may have.

    Raises:
        EngineError: the name is not known.
    """
    if name == "auto":
        name = next(each for each in _by_speed() if engine_row(each).is_installed)
    if name not in ENGINES:
        raise EngineError(f"--engine {name}: not one of auto, {', '.join(ENGINES)}")
    module = importlib.import_module(f"yoloq.engines.{name.replace('-', '_')}")
    engine: Engine = module.ENGINE
    return engine


def engine_packages() -> dict[str, tuple[str, ...]]:
    """What figures on engines depend on: package -> the distributions that it may come from."""
    return {name: found for each in ENGINES for name, found in engine_row(each).packages.items()}


def _by_speed() -> list[str]:
    """All names, the fastest first: what needs a GPU where torch sees one, never elsewhere."""
    names = [name for name in ENGINES if not engine_row(name).by_name_alone]
    on_cpu = [name for name in names if "cpu" in engine_row(name).devices]
    on_gpu = [name for name in names if name not in on_cpu]
    return [*on_gpu, *on_cpu] if has_gpu() else on_cpu
