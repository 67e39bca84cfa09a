"""TensorRT's own ONNX parser, where a package that has it is installed.

TensorRT for RTX parses without a GPU and without a driver, and its parser is the open one that
TensorRT 10 and 11 have: what it refuses, they refuse.
"""

import importlib
import importlib.util
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from yoloq.base.errors import EngineError
from yoloq.graph.lint.table import LintFinding

VERSION = "1.7.1.116"
PACKAGES = ("tensorrt_rtx_libs", "tensorrt_rtx_bindings")  # the libraries first: it loads them
INSTALL = (
    ".venv/bin/pip install --no-deps "
    f"tensorrt-rtx-cu13-bindings=={VERSION} tensorrt-rtx-cu13-libs=={VERSION}"
)
FIX = "see what the rules say of it; else export the node in a form that TensorRT reads"


def is_installed() -> bool:
    """Whether there is a parser to ask."""
    return all(importlib.util.find_spec(name) for name in PACKAGES)


def bindings() -> Any:
    """The module of TensorRT for RTX.

    Raises:
        EngineError: it is not installed, or its libraries do not load.
    """
    if not is_installed():
        raise EngineError(
            f"--parse on: TensorRT's parser is not installed (no GPU needed): {INSTALL}"
        )
    try:
        return [importlib.import_module(name) for name in PACKAGES][-1]
    except (ImportError, OSError) as error:
        reason = " ".join(str(error).split())
        raise EngineError(f"--parse: TensorRT's libraries do not load ({reason})") from None


def refusals(file: Path) -> list[LintFinding]:
    """What the parser refuses of a file, nodes with one reason together.

    Raises:
        EngineError: there is no parser.
    """
    trt = bindings()
    logger = _silent(trt)
    network = trt.Builder(logger).create_network(0)
    parser = trt.OnnxParser(network, logger)
    parser.parse_from_file(str(file))
    nodes: dict[tuple[str, str], list[str]] = defaultdict(list)
    for error in (parser.get_error(index) for index in range(parser.num_errors)):
        nodes[_text(error.node_operator), _reason(error)].append(_text(error.node_name))
    return [
        LintFinding("error", "parser", tuple(names), f"{operator}: {reason}", FIX)
        for (operator, reason), names in nodes.items()
    ]


def _text(read: Callable[[], str]) -> str:
    """What the parser says; a damaged file has names that are no text."""
    try:
        return read()
    except UnicodeDecodeError:
        return "(no text)"


def _reason(error: Any) -> str:
    text = " ".join(_text(error.desc).split())
    return "TensorRT's parser does not know it" if text in ("", "false") else text


def _silent(trt: Any) -> Any:
    class Silent(trt.ILogger):  # type: ignore[misc,name-defined]
        """Errors come from the parser itself, warnings are of no refusal."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            del severity, message

    return Silent()
