"""TensorRT for RTX: the real parser and builder, without a GPU; and the kernels that it built."""

import functools
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import pytest

from yoloq.engines.tensorrt.library import RTX, RTX_VERSION

WHEELS = Path(sys.prefix) / "tensorrt-rtx" / RTX_VERSION
ONNX_LAYER = re.compile(r"\[ONNX Layer: ([^\]]+)\]")
DATATYPE = re.compile(r"Datatype: (\w+)")


@dataclass(frozen=True)
class RtxLayer:
    """One kernel of an engine: its kind, the types of what it reads and writes, and its nodes."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[str, ...]


def library() -> Any:
    """The module; skips the test, with the reason, where it is not there."""
    if (WHEELS / RTX.modules[-1]).is_dir() and str(WHEELS) not in sys.path:
        sys.path.append(str(WHEELS))
    if not RTX.is_installed():
        pytest.skip(f"{WHEELS}: TensorRT for RTX is not there; `make test` installs it")
    return RTX.load()


@functools.cache
def _builder() -> tuple[Any, Any, list[str]]:
    """One builder and its log for all tests of a process."""
    trt, messages = library(), list[str]()

    class Log(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            messages.append(message)

    log = Log()
    return trt.Builder(log), log, messages


def parsed(model: onnx.ModelProto) -> Any:
    """The network of a graph.

    Raises:
        AssertionError: the parser refuses it; says what it said.
    """
    builder, log, _ = _builder()
    network = builder.create_network(0)
    parser = library().OnnxParser(network, log)
    read = parser.parse(model.SerializeToString())
    assert read, [parser.get_error(index).desc() for index in range(parser.num_errors)]
    return network


def built(model: onnx.ModelProto) -> list[RtxLayer]:
    """The kernels of an engine for SM89 (Ada), in their order.

    Raises:
        AssertionError: the parser or the builder refuses the graph; says what it said.
    """
    trt = library()
    builder, _, messages = _builder()
    network = parsed(model)
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    _add_profile(builder, config, network)
    messages.clear()
    assert builder.build_serialized_network(network, config), messages[-5:]
    [listed] = [text for text in messages if text.lstrip().startswith("Layers:")]
    return [_layer(line) for line in listed.splitlines() if line.startswith("Name: ")]


def _add_profile(builder: Any, config: Any, network: Any) -> None:
    """Sizes of an input with any number of images: one to four."""
    image = network.get_input(0)
    if image.shape[0] == -1:
        rest = tuple(image.shape)[1:]
        profile = builder.create_optimization_profile()
        profile.set_shape(image.name, (1, *rest), (2, *rest), (4, *rest))
        config.add_optimization_profile(profile)


def _layer(line: str) -> RtxLayer:
    head, _, rest = line.partition("Inputs:")
    inputs, _, rest = rest.partition("Constants:") if "Constants:" in rest else ("", "", rest)
    if not inputs:
        inputs, _, rest = rest.partition("Outputs:")
    else:
        rest = rest.partition("Outputs:")[2]
    kind = re.search(r"LayerType: (\w+)", head)
    outputs, _, names = rest.partition("Metadata:")
    return RtxLayer(
        kind.group(1) if kind else "",
        tuple(DATATYPE.findall(inputs)),
        tuple(DATATYPE.findall(outputs)),
        tuple(ONNX_LAYER.findall(names)),
    )
