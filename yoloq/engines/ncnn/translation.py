"""An ONNX graph, with Q/DQ or without, becomes a network of ncnn operator by operator.

A pair in front of a convolution whose weight is quantized becomes a Quantize layer, once for all
that read it; the convolution gives floats. ncnn's blobs have no axis of images.
"""

import json

import onnx
import onnx_graphsurgeon as gs

from yoloq.base.errors import EngineError
from yoloq.engines.ncnn.layer_table import ROWS
from yoloq.engines.ncnn.net_file import WORD, Layer, NetFile
from yoloq.engines.ncnn.net_state import NetState
from yoloq.graph.export import INPUT
from yoloq.graph.known_shapes import settled_graph

ABOUT = "yoloq"  # name of the layer that holds what travels in the file; no other reads it


def to_ncnn(model: onnx.ModelProto, text: str) -> tuple[str, bytes]:
    """The content of the .param and of the .bin of a graph.

    Args:
        model: float, or with symmetric Q/DQ as `lower_minimal` puts it; its image is uint8
            (1, H, W, 3), the network's RGB floats (3, H, W) of 0 to 255.
        text: travels in the file.

    Raises:
        EngineError: an operator has no translation; names it.
    """
    graph = settled_graph(model, "ncnn")
    file = NetFile()
    _, height, width, channels = graph.inputs[0].shape
    file.add("Input", (), (INPUT,), {0: width, 1: height, 2: channels})
    state = NetState(graph, file)
    for node in graph.nodes:
        if id(node) not in state.taken:
            _translate(state, node)
    for tensor in graph.outputs:
        if state.blob(tensor) != tensor.name:  # a Split of one copies nothing
            file.add("Split", [state.blob(tensor)], [tensor.name])
    file.layers.insert(0, _about(text, sum(len(layer.weights) for layer in file.layers)))
    return file.dumps()


def _translate(state: NetState, node: gs.Node) -> None:
    if node.op not in ROWS:
        raise EngineError(
            f"the ncnn engine has no translation for ONNX's {node.op} ({node.name}); train the "
            "network with other layers there, or take --engine onnxruntime"
        )
    ROWS[node.op](state, node)


def _about(text: str, rest: int) -> Layer:
    """A text as the numbers of a layer that stands first, and how many bytes come behind it."""
    data = json.dumps({"bytes": rest, "model": text}).encode()
    data += b" " * (-len(data) % WORD)
    return Layer("MemoryData", ABOUT, (), (ABOUT,), {0: len(data) // WORD}, data)
