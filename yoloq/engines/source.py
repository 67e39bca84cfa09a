"""What an engine is built from: the models, and the graph that is lowered from them."""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from torch import nn

from yoloq.base.errors import EngineError
from yoloq.base.files import replace_when_whole
from yoloq.engines.options import BuildOptions
from yoloq.engines.predictor import METADATA, ModelInfo
from yoloq.graph.export import FloatGraph, export_float, float_copy
from yoloq.graph.qdq import DEQUANTIZED, QdqGraph
from yoloq.models.load import LoadedModel
from yoloq.quant.policy import Policy
from yoloq.quant.quantized import QuantizedModel, quantize_model
from yoloq.quant.trace import Op


@dataclass(frozen=True)
class Calibration:
    """Images for an engine that calibrates by itself.

    `batches` yields uint8 (N, imgsz, imgsz, 3) letterboxed RGB images, `count` in all; `key` is the
    hash of all that their content depends on.
    """

    key: str
    count: int
    batches: Callable[[], Iterator[NDArray[np.uint8]]]


class Exports:
    """The float graphs of a run's networks: each is exported once, whoever asks for it."""

    def __init__(self) -> None:
        self.graphs: dict[tuple[int, int, int], tuple[nn.Module, FloatGraph]] = {}

    def of(self, net: nn.Module, imgsz: int, batch: int, ops: Sequence[Op]) -> FloatGraph:
        """The graph of a network for a number of images; `ops` is the network's trace."""
        key = (id(net), imgsz, batch)
        if key not in self.graphs:  # with the network, so that its id stays its own
            self.graphs[key] = (net, export_float(net, imgsz, batch, ops))
        return self.graphs[key][1]


@dataclass(frozen=True)
class Source:
    """What an engine is built from: the fused float model and its calibrated counterpart.

    Attributes:
        info: what travels with the engine.
        model: the float model.
        quantized: the calibrated one, of the same network.
        options: what the build is told beyond its precision.
        calibration: images for a precision whose ranges the engine calibrates itself.
        device: where an engine is built that measures kernels to choose from them.
        caches: folder for what the next build can use, such as those times; None: beside the
            engine.
        exports: float graphs, which the sources of one run share.
    """

    info: ModelInfo
    model: LoadedModel
    quantized: QuantizedModel
    options: BuildOptions = field(default_factory=BuildOptions)
    calibration: Calibration | None = None
    device: str = "auto"
    caches: Path | None = None
    exports: Exports = field(default_factory=Exports)

    @staticmethod
    def of(
        model: LoadedModel | QuantizedModel, imgsz: int = 0, device: str = "auto"
    ) -> tuple["Source", str]:
        """The source of a model alone, and the precision that it is for: int8, or fp32.

        Args:
            imgsz: image size in pixels; 0: that of the checkpoint, else 640.

        Raises:
            UserError: the size is no multiple of the stride.
        """
        if isinstance(model, QuantizedModel):
            quantized, precision = model, "int8"
            plain = replace(model.model, net=float_copy(model.model.net))
        else:
            own = replace(model, net=copy.deepcopy(model.net))
            quantized, precision, plain = quantize_model(own, Policy(())), "fp32", model
        return Source(ModelInfo.of(plain, imgsz), plain, quantized, device=device), precision

    def net(self, precision: str) -> nn.Module:
        """The network of a precision."""
        return (self.quantized.model if precision == "int8" else self.model).net

    def exported(self, precision: str, batch: int = 1) -> FloatGraph:
        """The float graph of the network of a precision."""
        return self.exports.of(self.net(precision), self.info.imgsz, batch, self.quantized.ops)


@dataclass(frozen=True)
class Graph:
    """What is linted, kept and built: one object.

    Attributes:
        source: what it was made from.
        precision: as the engine calls it.
        lowered: the ONNX graph as the engine runs it; None of an engine that reads none.
    """

    source: Source
    precision: str
    lowered: onnx.ModelProto | None = None

    @property
    def model(self) -> onnx.ModelProto:
        """The graph of an engine that reads one."""
        assert self.lowered is not None, "this engine lowers to ONNX"
        return self.lowered


def described(model: onnx.ModelProto, info: ModelInfo) -> onnx.ModelProto:
    """A copy of a graph that carries what has to travel with it."""
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    onnx.helper.set_model_props(copied, {METADATA: info.to_json()})
    return copied


def save_graph(graph: Graph, file: Path) -> Path:
    """Write a lowered graph whole, with what has to travel with it.

    Raises:
        EngineError: it is of an engine that reads no ONNX.
    """
    if graph.lowered is None:
        raise EngineError("this engine reads no ONNX; export for openvino or onnxruntime")
    with replace_when_whole(file) as temporary:
        onnx.save(described(graph.lowered, graph.source.info), temporary)
    return file


def tensors_of(source: Source, precision: str, layers: Sequence[str]) -> dict[str, str]:
    """The tensor that each convolution writes; lowering adds nodes, but keeps these names.

    Args:
        layers: names of convolutions.

    Raises:
        PolicyError: no engine runs the network's quantizers.
    """
    nodes = QdqGraph(source.exported(precision), source.net(precision)).convolutions
    return {layer: nodes[layer].outputs[0].name for layer in layers}


def read_from(
    model: onnx.ModelProto, source: Source, precision: str, layers: Sequence[str]
) -> dict[str, str]:
    """As `tensors_of`, but of a convolution that writes integers the tensor that is read from them.

    Asked for what comes before that rounding, an engine would compute the convolution in float.

    Args:
        model: the lowered graph.
    """
    made = {output for node in model.graph.node for output in node.output}
    tensors = tensors_of(source, precision, layers)
    read = {layer: f"{tensor}{DEQUANTIZED}" for layer, tensor in tensors.items()}
    return tensors | {layer: tensor for layer, tensor in read.items() if tensor in made}


def with_outputs(model: onnx.ModelProto, tensors: Iterable[str]) -> onnx.ModelProto:
    """A copy of a graph that also gives some of its float tensors, behind its own outputs."""
    more = onnx.ModelProto()
    more.CopyFrom(model)
    made = [onnx.helper.make_tensor_value_info(t, onnx.TensorProto.FLOAT, None) for t in tensors]
    more.graph.output.extend(made)
    return more
