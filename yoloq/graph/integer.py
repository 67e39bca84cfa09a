"""The Q/DQ graph with integers from one convolution to the next.

ONNX Runtime forms an integer convolution only where its output is quantized too, and then every
operator up to the next convolution is worth having in integers: what each activation needs is in
`activation_nodes.py`. The DLA of a Jetson wants the same, in int8 without zero-points: it has no
floats of its own between integers.
"""

import math
from collections.abc import Callable, Mapping

import onnx
import onnx_graphsurgeon as gs
from torch import nn

from yoloq.graph.activation_nodes import Activated, activation_behind, useful
from yoloq.graph.export import FloatGraph
from yoloq.graph.lower import moved_by
from yoloq.graph.qdq import Affine, QdqGraph
from yoloq.quant.modules import is_on

Ranges = Mapping[str, tuple[float, float]]
Span = Callable[[float, float], Affine]  # the integers for a range


def lower_integer(
    exported: FloatGraph, net: nn.Module, outputs: Ranges, symmetric: bool = False
) -> onnx.ModelProto:
    """All tensors from one quantized convolution to the next in integers.

    Quantizes more than the policy's fake quantizers do: convolution outputs, SiLU's sigmoid, and
    the inputs of Concat and Add; and what a clip (ReLU) leaves has all 256 steps in its bounds. So
    its accuracy is measured on its own. A float convolution reads the tensor as it was before it
    was quantized, unless an integer convolution writes it.

    Args:
        outputs: range of each convolution's output, before its activation.
        symmetric: int8 without zero-points, of a network that has none, in the place of uint8. No
            clip is folded into such integers, which reach below its bounds.
    """
    graph = QdqGraph(exported, net, unsigned=not symmetric)
    bounds = {} if symmetric else _bounds(graph.graph)
    span = about_zero if symmetric else asymmetric
    affines: dict[str, Affine] = {}  # of each tensor that is held in integers
    inside: set[int] = set()  # ids of the convolutions that read it so
    apart: list[tuple[gs.Variable, Affine, gs.Node]] = []
    for _, node, conv in graph.quantized():
        graph.quantize_weight(node, conv)
        if is_on(conv.input_quantizer):
            tensor = node.inputs[0]
            affine = _within(graph.affine(node, conv.input_quantizer), bounds.get(tensor.name))
            if conv.both_quantized and affines.setdefault(tensor.name, affine) == affine:
                inside.add(id(node))
            else:
                apart.append((tensor, affine, node))
    _spread_to_sources(graph.graph, affines, bounds)
    written = {
        _quantize_output(node.outputs[0], outputs[name], affines, span)
        for name, node in graph.convolutions.items()
        if id(node) in inside
    }
    _spread_to_results(graph.graph, affines)
    for tensor in list(graph.graph.tensors().values()):
        everyone = tensor.name in written
        users = [n for n in tensor.outputs if everyone or n.op != "Conv" or id(n) in inside]
        if tensor.name in affines and users:
            graph.insert_pair(tensor, affines[tensor.name], users)
    for tensor, affine, node in apart:
        graph.insert_pair(tensor, affine, [node])
    return graph.finish()


def _bounds(graph: gs.Graph) -> dict[str, tuple[float, float]]:
    """Between which values tensors are, whatever the image: results of clips, and what moves them.

    Only a range within them can be folded into the convolution in front of the clip.
    """
    found: dict[str, tuple[float, float]] = {}
    for node in graph.nodes:  # in the order of the forward pass
        clip = activation_behind(node.outputs[0]) if node.op == "Conv" else None
        if clip and clip.row.folds:
            found[clip.result.name] = clip.bounds
        sources = moved_by(node) or (node.inputs if node.op == "Add" else [])
        if sources and all(tensor.name in found for tensor in sources):
            lows, highs = zip(*(found[tensor.name] for tensor in sources), strict=True)
            join = (sum, sum) if node.op == "Add" else (min, max)
            found[node.outputs[0].name] = (join[0](lows), join[1](highs))
    return found


def _within(affine: Affine, bounds: tuple[float, float] | None) -> Affine:
    """A range without what its tensor never is: no step is spent there."""
    if bounds is None or (bounds[0] <= affine.low and affine.high <= bounds[1]):
        return affine
    return asymmetric(max(affine.low, bounds[0]), min(affine.high, bounds[1]))


def _spread_to_sources(
    graph: gs.Graph, affines: dict[str, Affine], bounds: Mapping[str, tuple[float, float]]
) -> None:
    """Give what values are moved from the range of where they go: they are rounded once.

    But where a clip bounds a source, to which the rest of that range is of no use.
    """
    for node in reversed(graph.nodes):  # against the order of the forward pass
        for tensor in moved_by(node) if node.outputs[0].name in affines else ():
            affine = affines[node.outputs[0].name]
            affines.setdefault(tensor.name, _within(affine, bounds.get(tensor.name)))


def _quantize_output(
    output: gs.Variable, ends: tuple[float, float], affines: dict[str, Affine], span: Span
) -> str:
    """Ranges of a convolution's output and of its activation's parts.

    An activation that the table does not know computes in float behind the convolution's pair.

    Returns:
        What the convolution itself writes: also of an activation that is folded into it.
    """
    found = activation_behind(output)
    if found is None:
        affines.setdefault(output.name, span(*ends))
        return str(output.name)
    result = found.result.name
    most = affines[result].high if result in affines else math.inf
    kept, results = useful(found, *ends, most)
    affines.setdefault(result, span(*results))
    if _folds(found, output, affines[result]):
        return str(result)
    affines.setdefault(output.name, span(*kept))
    for node in found.nodes:
        if node.op in found.row.inside:
            affines[node.outputs[0].name] = span(*found.row.inside[node.op])
    return str(output.name)


def _folds(found: Activated, output: gs.Variable, result: Affine) -> bool:
    """Whether rounding to the result's integers clips as the activation does."""
    if not found.row.folds or len(output.outputs) > 1:
        return False
    low, high = found.bounds
    return low <= result.low and result.high <= high


def asymmetric(low: float, high: float) -> Affine:
    """uint8 scale and zero-point of [low, high], widened to hold 0."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / 255 or 1.0
    return Affine(scale, round(-low / scale) - 128, unsigned=True)


def about_zero(low: float, high: float) -> Affine:
    """int8 scale of [low, high], widened to lie about 0."""
    return Affine(max(-low, high, 0.0) / 127 or 1.0, 0)


def _spread_to_results(graph: gs.Graph, affines: dict[str, Affine]) -> None:
    """Give pooled and resized tensors the range of their source: int8 kernels pass it on."""
    for node in graph.nodes:  # in the order of the forward pass
        for tensor in moved_by(node) if node.op != "Concat" else ():
            if tensor.name in affines:
                affines[node.outputs[0].name] = affines[tensor.name]
