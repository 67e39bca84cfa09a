"""Shapes and constants that an exported graph computes, for runtimes that want them written down.

The exporter writes a chunk as arithmetic on shapes, which ONNX's own inference does not follow
through a division. Node by node, with the shapes in front of it known, each is a plain number.
"""

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from onnx.shape_inference import infer_node_outputs, infer_shapes

from yoloq.base.errors import EngineError
from yoloq.graph.export import OPSET
from yoloq.graph.qdq import import_graph

OPSETS = {"": OPSET}
PAIRS = ("QuantizeLinear", "DequantizeLinear")


def settled_graph(model: onnx.ModelProto, engine: str) -> gs.Graph:
    """A graph in which the shape of every tensor is known, and nothing constant is computed.

    Args:
        engine: whose file is made of it.

    Raises:
        EngineError: a shape depends on the image.
    """
    graph = import_graph(infer_shapes(model))
    done = [node for node in graph.nodes if _settle(node, engine)]
    for node in done:  # nothing reads a tensor for its shape any more
        node.inputs.clear()
        graph.nodes.remove(node)
    return graph


def _settle(node: gs.Node, engine: str) -> bool:
    """Give what a node writes its shape; its values, where all that it reads is constant.

    Returns:
        Whether it is constant, so that nothing is left to be done by it.
    """
    if node.op in PAIRS:
        node.outputs[0].shape = list(node.inputs[0].shape)
        return False
    if node.op == "Shape":
        _constant(node.outputs[0], np.array(node.inputs[0].shape, np.int64))
        return True
    read = [tensor for tensor in node.inputs if not tensor.is_empty()]
    if all(isinstance(tensor, gs.Constant) for tensor in read):
        evaluator = ReferenceEvaluator(_proto(node), opsets=OPSETS)
        values = evaluator.run(None, {tensor.name: tensor.values for tensor in read})
        for output, found in zip(node.outputs, values, strict=True):
            _constant(output, np.asarray(found))
        return True
    if not all(map(_is_known, node.outputs)):
        _infer(node, read, engine)
    return False


def _constant(tensor: gs.Variable, values: NDArray[np.generic]) -> None:
    """Let everything that reads a tensor read its values."""
    made = gs.Constant(f"{tensor.name}_value", values)
    for user in list(tensor.outputs):
        user.inputs = [made if each is tensor else each for each in user.inputs]


def _is_known(tensor: gs.Tensor) -> bool:
    return tensor.shape is not None and all(isinstance(size, int) for size in tensor.shape)


def _infer(node: gs.Node, read: list[gs.Tensor], engine: str) -> None:
    types, data = {}, {}
    for tensor in read:
        if isinstance(tensor, gs.Constant):
            data[tensor.name] = onnx.numpy_helper.from_array(tensor.values, tensor.name)
            kind, shape = data[tensor.name].data_type, tensor.values.shape
        else:
            kind, shape = onnx.TensorProto.FLOAT, tensor.shape
        types[tensor.name] = onnx.helper.make_tensor_type_proto(kind, shape)
    schema = onnx.defs.get_schema(node.op, OPSET)
    imports = [onnx.helper.make_opsetid("", OPSET)]
    found = infer_node_outputs(schema, _proto(node), types, data, opset_imports=imports)
    for output in node.outputs:
        sizes = found[output.name].tensor_type.shape.dim
        output.shape = [size.dim_value for size in sizes]
        if not all(output.shape):
            raise EngineError(
                f"the {engine} engine wants every size known, and that of {output.name} is not; "
                "take --engine onnxruntime"
            )


def _proto(node: gs.Node) -> onnx.NodeProto:
    inputs, outputs = ([t.name for t in side] for side in (node.inputs, node.outputs))
    attributes = {
        key: onnx.numpy_helper.from_array(value.values) if isinstance(value, gs.Tensor) else value
        for key, value in node.attrs.items()
    }
    return onnx.helper.make_node(node.op, inputs, outputs, **attributes)
