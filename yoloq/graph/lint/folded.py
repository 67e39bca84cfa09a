"""Values of tensors that a graph computes from constants alone, such as weights rounded in it."""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper
from onnx.reference import ReferenceEvaluator

from yoloq.graph.lint.lookup import OnnxView


def folded(graph: OnnxView, tensor: str) -> NDArray[Any] | None:
    """Values of a tensor that depends on no input; None where they are not to be had.

    They are not where weights lie in another file, or an operator is of another domain.
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
    try:
        with np.errstate(all="ignore"):
            [found] = ReferenceEvaluator(model).run(None, {})
    except Exception:  # each operator raises what it likes
        return None
    return found if isinstance(found, np.ndarray) else None


def _makers(graph: OnnxView, tensor: str) -> list[onnx.NodeProto]:
    """The nodes that a tensor is computed by, in their order."""
    wanted, found = {tensor}, []
    for node in reversed(graph.nodes):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            found.append(node)
    return found[::-1]
