"""LiteRT from the folder into which `make test` puts it, beside the pinned packages."""

import importlib
import sys
from pathlib import Path

import pytest

from yoloq.engines import engine_row
from yoloq.engines.litert import RELEASE

WHEELS = Path(sys.prefix) / "litert" / RELEASE


def found() -> bool:
    """Whether it is there; imported, for the search path stays as it was: keys of results do."""
    if (WHEELS / "ai_edge_litert").is_dir() and "ai_edge_litert" not in sys.modules:
        sys.path.append(str(WHEELS))
        try:
            for name in ("interpreter", "schema_py_generated"):
                importlib.import_module(f"ai_edge_litert.{name}")
        finally:
            sys.path.remove(str(WHEELS))
    return engine_row("litert").is_installed


def litert() -> None:
    """Skips the test, with the reason, where it is not there."""
    if not found():
        pytest.skip(f"{WHEELS}: LiteRT is not there; `make test` installs it")
