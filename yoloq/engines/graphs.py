"""An engine's graph with outputs of its convolutions as further outputs."""

from collections.abc import Iterable, Sequence

import onnx

from yoloq.engines.base import Source
from yoloq.graph.qdq import QdqGraph


def tensors_of(source: Source, precision: str, layers: Sequence[str]) -> dict[str, str]:
    """The tensor that each convolution writes; lowering adds nodes, but keeps these names.

    Args:
        layers: names of convolutions.

    Raises:
        PolicyError: no engine runs the network's quantizers.
    """
    nodes = QdqGraph(source.exported(precision), source.net(precision)).convolutions
    return {layer: nodes[layer].outputs[0].name for layer in layers}


def with_outputs(model: onnx.ModelProto, tensors: Iterable[str]) -> onnx.ModelProto:
    """A copy of a graph that also gives some of its float tensors, behind its own outputs."""
    more = onnx.ModelProto()
    more.CopyFrom(model)
    made = [onnx.helper.make_tensor_value_info(t, onnx.TensorProto.FLOAT, None) for t in tensors]
    more.graph.output.extend(made)
    return more
