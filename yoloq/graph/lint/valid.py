"""Is a model valid ONNX, whatever its size and wherever its weights lie."""

import math
from collections.abc import Iterable

import onnx
from onnx import TensorProto, helper, inliner

from yoloq.graph.lint.nodes import every
from yoloq.graph.lint.operators import set_apart

UNFOLDED = 1_000_000  # nodes; the largest detectors have a few thousand
READ_WHOLE = 1 << 16  # elements; larger tensors are weights, of which type and shape are enough


class DamagedError(Exception):
    """A model that is no valid ONNX; the text is one line."""


def checked(model: onnx.ModelProto) -> tuple[onnx.ModelProto, frozenset[str]]:
    """The model without its weights' bytes, found valid by the ONNX checker, functions unfolded.

    Operators that ONNX does not have are in a domain of their own (`operators.UNKNOWN`).

    Returns:
        The model, and the domains that it uses and does not import.

    Raises:
        DamagedError: it is not valid; says why.
    """
    try:
        light = _without_weights(model)
        _check_names(light)
        unimported = set_apart(light)
        _check(light)
        _check_unfolded(light)
        light = inliner.inline_local_functions(light) if light.functions else light
        return light, unimported
    except (onnx.checker.ValidationError, RuntimeError, ValueError, TypeError) as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        raise DamagedError(reason or type(error).__name__) from None


def _check(model: onnx.ModelProto) -> None:
    """The ONNX checker, which alone of all readers insists on a shape of inputs and outputs."""
    infos = (info.type.tensor_type for info in (*model.graph.input, *model.graph.output))
    shapeless = [info for info in infos if info.elem_type and not info.HasField("shape")]
    for info in shapeless:
        info.shape.SetInParent()
    onnx.checker.check_model(model)
    for info in shapeless:
        info.ClearField("shape")


def _check_unfolded(model: onnx.ModelProto) -> None:
    """Local functions that call each other twice, thirty times over, unfold to 10^9 nodes."""
    functions = {(f.domain, f.name): f.node for f in model.functions}
    known: dict[tuple[str, str], int] = {}

    def unfolded(nodes: Iterable[onnx.NodeProto]) -> int:
        total = 0
        for node in every(nodes):
            called = (node.domain, node.op_type)
            if called in functions and called not in known:
                known[called] = UNFOLDED  # until it is counted: it cannot call itself
                known[called] = unfolded(functions[called])
            total = min(UNFOLDED, total + known.get(called, 1))
        return total

    if unfolded(model.graph.node) >= UNFOLDED:
        raise DamagedError(f"its functions unfold to {UNFOLDED:,} nodes or more")


def _check_names(model: onnx.ModelProto) -> None:
    """Text that is no UTF-8 passes the checker, and comes as bytes."""
    in_functions = (node for function in model.functions for node in function.node)
    for node in every((*model.graph.node, *in_functions)):
        for text in (node.name, node.op_type, node.domain, *node.input, *node.output):
            if not isinstance(text, str):
                raise DamagedError(f"{text!r} is no text")


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with large and external initializers as inputs: their bytes are not looked at.

    The checker cannot take models beyond 2 GB, and looks for external data in the current folder.
    """
    light = onnx.ModelProto(ir_version=model.ir_version)
    light.opset_import.extend(model.opset_import)
    light.functions.extend(model.functions)
    graph = light.graph
    for field in ("node", "input", "output", "value_info", "sparse_initializer"):
        getattr(graph, field).extend(getattr(model.graph, field))
    graph.name = model.graph.name or "graph"
    inputs = {info.name for info in graph.input}
    for tensor in model.graph.initializer:
        if tensor.data_location != TensorProto.EXTERNAL and size(tensor) <= READ_WHOLE:
            graph.initializer.append(tensor)
        elif tensor.name not in inputs:
            info = helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            graph.input.append(info)
    return light


def size(tensor: TensorProto) -> int:
    """Number of elements."""
    return math.prod(tensor.dims)
