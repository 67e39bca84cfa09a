"""Rules on operators that hand integers on: Concat, MaxPool, nearest Resize."""

from collections.abc import Iterator
from functools import partial

import onnx

from .graph import Affine, Graph, Hit, listed
from .nodes import CASTS, DEQUANTIZE, QUANTIZE, attribute, kind, label


def unequal_scales(graph: Graph) -> Iterator[Hit]:
    """TensorRT hands int8 through Concat, MaxPool and nearest Resize where one scale serves all.

    It moves the Q that reads such an operator to the operator's inputs. Where an input is also
    rounded with another scale, for this operator or for another reader, a pass of rescaling is
    added. Only operators whose readers all round, for they alone run in int8; OpenVINO gains
    nothing from shared scales, and ONNX Runtime's Concat rescales for itself.
    """
    return _unequal(graph, ("Concat", "MaxPool", "Resize", "Upsample"), of_floats=True)


def unequal_pools(graph: Graph) -> Iterator[Hit]:
    """ONNX Runtime pools and resizes integers only where the scales before and after are equal."""
    return _unequal(graph, ("MaxPool", "Resize", "Upsample"), of_floats=False)


def _unequal(graph: Graph, kinds: tuple[str, ...], of_floats: bool) -> Iterator[Hit]:
    """`of_floats`: whether an input in float counts as rounded the way its other readers do."""
    demanded = _demanded(graph)
    for node in filter(partial(_hands_on, graph), graph.of(*kinds)):
        behind = demanded.get(node.output[0], set())
        if not behind or None in behind:
            continue
        found = {affine for affine in behind if affine}
        for tensor in node.input if kind(node) == "Concat" else node.input[:1]:
            dequantize = graph.dequantizer(tensor)
            if dequantize is not None:
                found.add(graph.affine(dequantize))
            elif of_floats:
                shared = demanded.get(graph.before(tensor, CASTS), ())
                found |= {affine for affine in shared if affine}
        if len(found) > 1:
            yield Hit((label(node),), f"scales {listed(found)} around one {kind(node)}")


def _hands_on(graph: Graph, node: onnx.NodeProto) -> bool:
    """Whether a node computes no new values."""
    if kind(node) in ("Resize", "Upsample"):
        return attribute(node, "mode", b"nearest") == b"nearest"
    return kind(node) in ("Concat", "MaxPool") and node.input[0] not in graph.constant


def _demanded(graph: Graph) -> dict[str, set[Affine | None]]:
    """The scales that each tensor is rounded with, None for a reader in float.

    Seen through operators that hand integers on: what their readers demand, they demand.
    """
    found: dict[str, set[Affine | None]] = {}
    for node in reversed(graph.nodes):
        for tensor in node.output:
            found[tensor] = {None} if tensor in graph.outputs else set()
            for user in graph.readers.get(tensor, ()):
                found[tensor] |= _demand(graph, user, found)
    return found


def _demand(
    graph: Graph, user: onnx.NodeProto, found: dict[str, set[Affine | None]]
) -> set[Affine | None]:
    if kind(user) == QUANTIZE:
        return {graph.affine(user)}
    if kind(user) in (DEQUANTIZE, *CASTS) or _hands_on(graph, user):
        return found.get(user.output[0], set())
    return set() if kind(user) in ("Shape", "Size") else {None}
