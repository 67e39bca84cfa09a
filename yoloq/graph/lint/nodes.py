"""Single nodes of an ONNX graph: operator, name, attributes, inputs; and values of constants."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
PAIR = (QUANTIZE, DEQUANTIZE)
CASTS = ("Identity", "Cast")  # hand on the values that they read
MOVES = ("Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Split")
JOINS = ("Concat", "MaxPool", "Resize", "Upsample")  # choose among the values that they read
CONVOLUTIONS = ("Conv", "ConvTranspose")
GATES = ("Sigmoid", "HardSigmoid")  # of SiLU and Hardswish, x * gate(x)
NUMBERS: dict[str, type[np.generic]] = {  # attributes of Constant nodes that are no tensors
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
}


def kind(node: onnx.NodeProto) -> str:
    """A node's operator; one of another domain is none that ONNX has, but Microsoft's Q/DQ are."""
    if node.domain in ("", "ai.onnx"):
        return node.op_type
    same = node.domain == "com.microsoft" and node.op_type in PAIR and len(node.input) >= 2
    return node.op_type if same and node.output else f"{node.domain}.{node.op_type}"


def operator(node: onnx.NodeProto) -> str:
    """A node's operator without the domain: Microsoft's QLinearConcat."""
    return kind(node).rpartition(".")[2]


def label(node: onnx.NodeProto) -> str:
    """A node's name; where it has none, its operator and what it writes."""
    return node.name or f"{node.op_type} -> {next(iter(node.output), 'nothing')}"


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """Value of an attribute."""
    found = (helper.get_attribute_value(a) for a in node.attribute if a.name == name)
    return next(found, default)


def joins(node: onnx.NodeProto) -> bool:
    """Whether a node's values are among those that it reads: also a Resize, if to the nearest."""
    if kind(node) in ("Resize", "Upsample"):
        return attribute(node, "mode", b"nearest") == b"nearest"
    return kind(node) in JOINS


def joined(node: onnx.NodeProto) -> list[str]:
    """The tensors whose values such a node hands on."""
    return list(node.input) if kind(node) == "Concat" else list(node.input[:1])


def every(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """The nodes and those of their subgraphs."""
    for node in nodes:
        yield node
        for item in node.attribute:
            for graph in (item.g, *item.graphs):
                yield from every(graph.node)


def inputs_of(node: onnx.NodeProto) -> Iterator[str]:
    """Tensors that a node reads, those that only its subgraphs read included."""
    yield from (tensor for tensor in node.input if tensor)
    for item in node.attribute:
        for graph in (item.g, *item.graphs):
            yield from (name for inner in graph.node for name in inputs_of(inner))


def constant_value(node: onnx.NodeProto) -> TensorProto | None:
    """What a Constant node holds."""
    if kind(node) != "Constant" or len(node.attribute) != 1:
        return None
    value = helper.get_attribute_value(node.attribute[0])
    if isinstance(value, TensorProto):
        return value
    dtype = NUMBERS.get(node.attribute[0].name)
    return None if dtype is None else numpy_helper.from_array(np.array(value, dtype))


def numbers(values: NDArray[Any]) -> tuple[float, ...]:
    """The values as plain numbers, whatever their type."""
    return tuple(values.astype(np.float64).ravel().tolist())
