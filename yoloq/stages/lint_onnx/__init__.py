"""`make lint-onnx`: where a graph has Q/DQ against the rules of an engine."""

from dataclasses import dataclass

from yoloq.base.config import option
from yoloq.graph.lint import TARGETS


@dataclass(frozen=True)
class LintConfig:
    """Check where an ONNX file has Q/DQ against the rules of an engine."""

    onnx: str = option("", "ONNX file to check, of any tool")
    target: str = option(TARGETS[0], "engine that is to run it", TARGETS)
    all: bool = option(False, "name all nodes of a finding")
