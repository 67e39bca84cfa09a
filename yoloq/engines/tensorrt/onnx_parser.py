"""TensorRT's own ONNX parser, where a package that has it is installed.

TensorRT for RTX parses without a GPU and without a driver, and its parser is the open one that
TensorRT 10 and 11 have: what it refuses, they refuse.
"""

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from yoloq.base.errors import EngineError
from yoloq.engines.tensorrt.library import RTX
from yoloq.graph.lint.table import LintFinding

FIX = "see what the rules say of it; else export the node in a form that TensorRT reads"


def parser_library() -> ModuleType:
    """The module whose parser is asked.

    Raises:
        EngineError: it is not installed, or its libraries do not load.
    """
    if not RTX.is_installed():
        raise EngineError(
            f"--parse on: TensorRT's parser is not installed (no GPU needed): {RTX.install}"
        )
    return RTX.load("--parse")


def refusals(file: Path) -> list[LintFinding]:
    """What the parser refuses of a file, nodes with one reason together.

    Raises:
        EngineError: there is no parser.
    """
    trt = parser_library()
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
