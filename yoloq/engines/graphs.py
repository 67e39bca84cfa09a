"""The ONNX graph that an engine runs, with outputs of its convolutions as further outputs."""

from collections.abc import Callable, Iterable, Sequence

import onnx

from yoloq.engines.base import Source
from yoloq.graph.export import QdqGraph, export_float

Lower = Callable[[onnx.ModelProto, Source, str], onnx.ModelProto]


def exported(source: Source, precision: str) -> onnx.ModelProto:
    """The float graph of the network of a precision."""
    return export_float(source.net(precision), source.info.imgsz)


def lowered(
    source: Source, precision: str, layers: Sequence[str], lower: Lower
) -> tuple[onnx.ModelProto, dict[str, str]]:
    """An engine's graph, and the tensor in it that each convolution writes.

    Args:
        layers: names of convolutions.
        lower: what makes the exported graph of a precision the engine's own.

    Raises:
        PolicyError: no engine runs the network's quantizers.
    """
    model = exported(source, precision)
    # lowering adds nodes and changes their order; the names of tensors stay
    nodes = QdqGraph(model, source.net(precision)).convolutions
    tensors = {layer: nodes[layer].outputs[0].name for layer in layers}
    return lower(model, source, precision), tensors


def with_outputs(model: onnx.ModelProto, tensors: Iterable[str]) -> onnx.ModelProto:
    """Make float tensors of a graph outputs of it, behind those that it has, in place."""
    made = [onnx.helper.make_tensor_value_info(t, onnx.TensorProto.FLOAT, None) for t in tensors]
    model.graph.output.extend(made)
    return model
