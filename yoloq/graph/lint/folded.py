"""Values of tensors that a graph computes from constants alone, such as weights rounded in it."""

import math
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper
from onnx.reference import ReferenceEvaluator

from yoloq.graph.lint.lookup import OnnxView

LARGEST = 1 << 26  # numbers of a weight; the largest of YOLOv5x6 has 14 million


def folded(graph: OnnxView, tensor: str) -> NDArray[Any] | None:
    """Values of a tensor that depends on no input; None where they are not to be had.

    They are not where weights lie in another file, an operator is of another domain or holds a
    graph, or a tensor on the way is larger than any weight: a constant may be expanded without end.
    """
    values = graph.weight(tensor)
    if values is not None or tensor not in graph.constant:
        return values
    nodes = _makers(graph, tensor)
    read = {name for node in nodes for name in node.input}
    initializers = [graph.initializers[name] for name in read if name in graph.initializers]
    output = helper.make_empty_tensor_value_info(tensor)
    model = helper.make_model(
        helper.make_graph(nodes, "constants", [], [output], initializers),
        opset_imports=graph.model.opset_import,
    )
    if not _is_small(model):
        return None
    try:
        with np.errstate(all="ignore"):
            [found] = ReferenceEvaluator(model).run(None, {})
    except Exception:  # each operator raises what it likes
        return None
    return found if isinstance(found, np.ndarray) else None


def _is_small(model: onnx.ModelProto) -> bool:
    """Whether ONNX can tell the shapes of all tensors, and none is beyond a weight's."""
    nodes = model.graph.node
    if any(item.HasField("g") or item.graphs for node in nodes for item in node.attribute):
        return False
    try:
        graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        return False
    shapes = {
        info.name: [side.dim_value for side in info.type.tensor_type.shape.dim]
        for info in (*graph.value_info, *graph.output)
        if info.type.tensor_type.HasField("shape")
        and all(side.HasField("dim_value") for side in info.type.tensor_type.shape.dim)
    }
    made = [name for node in nodes for name in node.output if name]
    return all(name in shapes and math.prod(shapes[name]) <= LARGEST for name in made)


def _makers(graph: OnnxView, tensor: str) -> list[onnx.NodeProto]:
    """The nodes that a tensor is computed by, in their order."""
    wanted, found = {tensor}, []
    for node in reversed(graph.nodes):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            found.append(node)
    return found[::-1]
