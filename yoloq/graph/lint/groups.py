"""Rules on operators that hand integers on: Concat, MaxPool, nearest Resize."""

from collections.abc import Iterator

import onnx

from yoloq.graph.lint.lookup import Hit, OnnxView, Rounding, listed
from yoloq.graph.lint.nodes import CASTS, DEQUANTIZE, JOINS, QUANTIZE, joined, joins, kind, label

FAR = 8


def unequal_scales(graph: OnnxView) -> Iterator[Hit]:
    """TensorRT hands int8 through Concat, MaxPool and nearest Resize where one scale serves all.

    It moves the Q that reads such an operator to the operator's inputs, and a DQ in front of it to
    its output. Where an input is also rounded with another scale, for this operator or for another
    reader, a pass of rescaling is added. Only operators whose readers all round, for they alone run
    in int8. OpenVINO gains nothing from shared scales, ONNX Runtime's Concat rescales for itself.
    """
    return _unequal(graph, JOINS, of_floats=True)


def far_scales(graph: OnnxView) -> Iterator[Hit]:
    """Of a Concat whose inputs differ by more than `FAR` times no one scale serves all.

    It would leave the smaller one a few of its steps: a tensor of scores with the scale of boxes.
    """
    return _unequal(graph, ("Concat",), of_floats=True, far=True)


def unequal_pools(graph: OnnxView) -> Iterator[Hit]:
    """ONNX Runtime pools and resizes integers only where the scales before and after are equal."""
    return _unequal(graph, ("MaxPool", "Resize", "Upsample"), of_floats=False)


def _unequal(
    graph: OnnxView, kinds: tuple[str, ...], of_floats: bool, far: bool = False
) -> Iterator[Hit]:
    """`of_floats`: whether an input in float counts as rounded the way its other readers do."""
    demanded = _demanded(graph)
    for node in filter(joins, graph.of(*kinds)):
        found = set(demanded.get(node.output[0], ()))
        if not graph.readers.get(node.output[0]) or None in found:
            continue
        for tensor in joined(node):
            dequantize = graph.dequantizer(tensor)
            if dequantize is not None:
                found.add(graph.affine(dequantize))
            elif of_floats:
                found |= demanded.get(graph.before(tensor, CASTS), set()) - {None}
        if len(found) > 1 and far == (kind(node) == "Concat" and _far(found)):
            scales = listed({affine for affine in found if affine})
            yield Hit((label(node),), f"scales {scales} around one {kind(node)}")


def _far(found: set[Rounding | None]) -> bool:
    """Whether one scale is more than `FAR` times another."""
    scales = [r.scale[0] for r in found if r and not isinstance(r.scale, str) and r.scale]
    return bool(scales) and max(scales) > FAR * min(scales)


def _demanded(graph: OnnxView) -> dict[str, set[Rounding | None]]:
    """The scales that each tensor is rounded with, None for a reader in float.

    Seen through operators that hand integers on: what their readers demand, they demand. A
    convolution that reads integers right behind such an operator takes any scale.
    """
    found: dict[str, set[Rounding | None]] = {}
    for node in reversed(graph.nodes):
        for tensor in node.output:
            found[tensor] = {None} if tensor in graph.outputs else set()
            for user in graph.readers.get(tensor, ()):
                found[tensor] |= _demand(graph, user, found)
    return found


def _demand(
    graph: OnnxView, user: onnx.NodeProto, found: dict[str, set[Rounding | None]]
) -> set[Rounding | None]:
    if kind(user) == QUANTIZE:
        return {graph.affine(user)}
    if kind(user) in (DEQUANTIZE, *CASTS) or joins(user):
        return found.get(user.output[0], set())
    return set() if kind(user) in ("Shape", "Size") or graph.quantized(user) else {None}
