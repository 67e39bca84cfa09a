"""`make lint-onnx`: where a graph has Q/DQ against the rules of an engine."""

from dataclasses import dataclass

from yoloq.base.config import option, require
from yoloq.base.own_files import DATA
from yoloq.graph.lint import TARGETS


@dataclass(frozen=True)
class LintConfig:
    """Check where an ONNX file has Q/DQ against the rules of an engine."""

    onnx: str = option("", "ONNX file to check, of any tool")
    target: str = option(TARGETS[0], "engine that is to run it", TARGETS)
    all: bool = option(False, "name all nodes of a finding")
    parse: str = option(
        "auto", "ask TensorRT's own parser; auto: where it is installed", ("auto", "on", "off")
    )
    run: int = option(0, "run it on N val images in ONNX Runtime; report outputs that are dead")
    data: str = option(str(DATA), "data set (.yaml) of --run")

    def __post_init__(self) -> None:
        require(self.run >= 0, "--run", self.run, "0 (not) or more")
        own = self.parse != "on" or self.target == "tensorrt"
        require(own, "--parse", self.parse, "left out where the target is not tensorrt")
