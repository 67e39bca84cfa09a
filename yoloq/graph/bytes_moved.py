"""The image and resized tensors of a graph, moved as ONNX Runtime moves bytes fastest.

The results are the same bit for bit; yolov5n at 640 pixels, one thread of an AMD EPYC:

    the image's channels moved before it is cast to floats: spares 0.7 ms of 3 up to the first
    convolution's end
    the first convolution, 6 x 6 over 3 channels: its patches are gathered in rows of 18 bytes, 4.8
    ms. Pairs of rows and columns laid into channels (12) make it 3 x 3, as in YOLOv5's Focus: 1.3
    ms, and 0.25 to lay them, where one axis alone moves (5-dimensional transposes: 1.2)
    nearest Resize by 2: on one thread, 0.4 ms; a copy by Expand 0.05
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from yoloq.graph.qdq import import_graph

BYTES = np.arange(256, dtype=np.float64)
PLANES, PIXELS = [0, 3, 1, 2], [0, 2, 3, 1]  # channels last -> first, and back


def move_bytes(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which bytes are moved fast; the results are the same.

    Args:
        model: with integers between convolutions; reads uint8 images (N, H, W, 3).
    """
    graph = import_graph(onnx.shape_inference.infer_shapes(model))
    conv = next((node for node in graph.nodes if node.op == "Conv"), None)
    dequantize = None if conv is None else _reader_of_bytes(conv)
    if dequantize is not None and _can_pair(conv, dequantize, graph.inputs[0]):
        _read_pairs(graph, conv, dequantize)
    else:
        _move_before_cast(graph)
    for node in [node for node in graph.nodes if node.op == "Resize"]:
        if _repeats(node):
            _repeat(graph, node)
    made = gs.export_onnx(graph.cleanup().toposort())
    del made.graph.value_info[:]
    onnx.checker.check_model(made, full_check=True)
    return made


def _move_before_cast(graph: gs.Graph) -> None:
    """Let the image's channels be moved while they are bytes."""
    image = graph.inputs[0]
    cast = image.outputs[0]
    transpose = cast.outputs[0].outputs[0]
    assert (cast.op, transpose.op) == ("Cast", "Transpose")
    floats, planes = transpose.outputs[0], cast.outputs[0]
    planes.dtype, planes.shape = image.dtype, floats.shape
    cast.outputs, transpose.outputs = [], []
    transpose.inputs, transpose.outputs = [image], [planes]
    cast.inputs, cast.outputs = [planes], [floats]


def _reader_of_bytes(conv: gs.Node) -> gs.Node | None:
    """What dequantizes the image for a convolution, if its bytes come to it as they are."""
    chain, tensor = [], conv.inputs[0]
    while tensor.inputs:
        chain.append(tensor.inputs[0])
        tensor = tensor.inputs[0].inputs[0]
    if [node.op for node in chain] != ["DequantizeLinear", "QuantizeLinear", "Transpose", "Cast"]:
        return None
    _, scale, zero_point = chain[1].inputs
    found = np.clip(np.rint(BYTES / scale.values) + zero_point.values, 0, 255)
    same = zero_point.values.dtype == np.uint8 and np.array_equal(found, BYTES)
    return chain[0] if same else None


def _can_pair(conv: gs.Node, dequantize: gs.Node, image: gs.Variable) -> bool:
    """Whether a convolution steps over two rows and columns at once, and has an integer weight."""
    about, weight = conv.attrs, conv.inputs[1]
    return (
        image.shape[1] % 2 == image.shape[2] % 2 == 0
        and len(dequantize.outputs[0].outputs) == 1
        and (about["strides"], about["dilations"], about["group"]) == ([2, 2], [1, 1], 1)
        and about["pads"][:2] == about["pads"][2:]
        and bool(weight.inputs)
    )


def _read_pairs(graph: gs.Graph, conv: gs.Node, dequantize: gs.Node) -> None:
    """Lay pairs of rows and columns into channels, and the weight accordingly."""
    weight, image = conv.inputs[1].inputs[0].inputs[0], graph.inputs[0]
    paired = in_pairs(weight.values, [pad % 2 for pad in conv.attrs["pads"][:2]])
    conv.inputs[1].inputs[0].inputs[0] = gs.Constant(f"{weight.name}_pairs", paired)
    count, height, width, channels = image.shape
    steps = _Steps(graph, f"{conv.name}_pairs", np.uint8)
    rows = steps.reshape(image, count * height // 2, 2, width * channels)
    pairs = steps.transpose(rows, [0, 2, 1])
    pixels = steps.reshape(pairs, count, height // 2, width // 2, 4 * channels)
    dequantize.inputs[0] = steps.transpose(pixels, PLANES)
    conv.attrs |= _attributes(conv, paired.shape[2:], (height, width))


def _attributes(conv: gs.Node, kernel: Sequence[int], size: Sequence[int]) -> dict[str, list[int]]:
    """Those of the convolution over pairs, which has as many results as before."""
    pads, was = conv.attrs["pads"][:2], conv.attrs["kernel_shape"]
    before = [-(-pad // 2) for pad in pads]
    results = [(s + 2 * p - k) // 2 + 1 for s, p, k in zip(size, pads, was, strict=True)]
    behind = [
        n - 1 + k - b - s // 2 for n, k, b, s in zip(results, kernel, before, size, strict=True)
    ]
    return {"kernel_shape": list(kernel), "strides": [1, 1], "pads": [*before, *behind]}


def in_pairs(weight: NDArray[np.int8], lead: Sequence[int]) -> NDArray[np.int8]:
    """A weight for channels that hold two columns, each of C colours, each of two rows.

    Args:
        weight: (O, C, H, W).
        lead: empty rows and columns in front, 0 or 1: what an odd padding leaves of a pair.

    Returns:
        (O, 4 C, H', W'), half as high and wide, rounded up.
    """
    out, colours, *size = weight.shape
    ends = [(first, (first + n) % 2) for first, n in zip(lead, size, strict=True)]
    padded = np.pad(weight, [(0, 0), (0, 0), *ends])
    height, width = (n // 2 for n in padded.shape[2:])
    parts = padded.reshape(out, colours, height, 2, width, 2).transpose(0, 5, 1, 3, 2, 4)
    return np.ascontiguousarray(parts.reshape(out, 4 * colours, height, width))


def _repeats(resize: gs.Node) -> bool:
    """Whether each pixel is repeated a whole number of times, as far as the sizes are known.

    Behind a chunk, which is exported as arithmetic on shapes, they are names.
    """
    source, result = resize.inputs[0], resize.outputs[0]
    if not source.inputs or source.inputs[0].op != "DequantizeLinear":
        return False
    if not all(isinstance(n, int) for tensor in (source, result) for n in tensor.shape or [""]):
        return False
    (_, channels, *small), (_, same, *large) = source.shape, result.shape
    return (
        resize.attrs.get("mode") == "nearest"
        and resize.attrs.get("coordinate_transformation_mode") == "asymmetric"
        and resize.attrs.get("nearest_mode") == "floor"
        and channels == same
        and all(n % s == 0 for s, n in zip(small, large, strict=True))
    )


def _repeat(graph: gs.Graph, resize: gs.Node) -> None:
    """Repeat pixels along new axes beside rows and columns."""
    (count, channels, height, width), (*_, high, wide) = (
        tensor.shape for tensor in (resize.inputs[0], resize.outputs[0])
    )
    steps = _Steps(graph, resize.name, np.float32)
    pixels = steps.transpose(resize.inputs[0], PIXELS)
    alone = steps.reshape(pixels, count, height, 1, width, 1, channels)
    repeated = steps.expand(alone, count, height, high // height, width, wide // width, channels)
    planes = steps.transpose(steps.reshape(repeated, count, high, wide, channels), PLANES)
    for node in list(resize.outputs[0].outputs):
        node.inputs = [planes if t is resize.outputs[0] else t for t in node.inputs]
    resize.outputs.clear()


class _Steps:
    """Adds operators behind a tensor; their names begin with that of the node that they serve."""

    def __init__(self, graph: gs.Graph, name: str, dtype: type) -> None:
        self.graph, self.name, self.dtype, self.count = graph, name, dtype, 0

    def transpose(self, tensor: gs.Tensor, perm: Sequence[int]) -> gs.Variable:
        return self._add("Transpose", [tensor], {"perm": list(perm)})

    def reshape(self, tensor: gs.Tensor, *shape: int) -> gs.Variable:
        return self._add("Reshape", [tensor, self._shape(shape)], {})

    def expand(self, tensor: gs.Tensor, *shape: int) -> gs.Variable:
        return self._add("Expand", [tensor, self._shape(shape)], {})

    def _shape(self, shape: Sequence[int]) -> gs.Constant:
        return gs.Constant(f"{self.name}_shape{self.count}", np.array(shape, np.int64))

    def _add(self, op: str, inputs: list[gs.Tensor], attributes: dict[str, Any]) -> gs.Variable:
        name = f"{self.name}_{op}{self.count}"
        self.count += 1
        output = gs.Variable(f"{name}_output", self.dtype)
        self.graph.nodes.append(gs.Node(op, name, attributes, inputs, [output]))
        return output
