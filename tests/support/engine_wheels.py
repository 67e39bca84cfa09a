"""Engines from the folders into which `make test` puts them, beside the pinned packages."""

import importlib
import sys
from pathlib import Path

import pytest

from yoloq.engines import engine_row, litert, ncnn

PLACES = {  # engine -> its folder, and the modules of its package that are used
    "litert": (
        Path(sys.prefix) / "litert" / litert.RELEASE,
        ("ai_edge_litert.interpreter", "ai_edge_litert.schema_py_generated"),
    ),
    "ncnn": (Path(sys.prefix) / "ncnn" / ncnn.RELEASE, ("ncnn",)),
}


def found(engine: str) -> bool:
    """Whether it is there; imported, for the search path stays as it was: keys of results do."""
    folder, modules = PLACES[engine]
    package = modules[0].partition(".")[0]
    if (folder / package).is_dir() and package not in sys.modules:
        sys.path.append(str(folder))
        try:
            for name in modules:
                importlib.import_module(name)
        finally:
            sys.path.remove(str(folder))
    return engine_row(engine).is_installed


def need(engine: str) -> None:
    """Skips the test, with the reason, where it is not there."""
    if not found(engine):
        pytest.skip(f"{PLACES[engine][0]}: {engine} is not there; `make test` installs it")
