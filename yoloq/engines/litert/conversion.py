"""An ONNX graph, with Q/DQ or without, becomes a .tflite file operator by operator.

Q/DQ pairs vanish: a tensor that is read through a pair is held in integers, and what reads and
writes integers alone computes in them. Axes are moved as late as can be: LiteRT's convolutions want
channels last, ONNX has them second, and most operators do not care.
"""

import onnx
import onnx_graphsurgeon as gs

from yoloq.base.errors import EngineError
from yoloq.engines.litert.graph_state import GraphState, Value
from yoloq.engines.litert.node_table import NODES
from yoloq.engines.litert.tflite_file import Steps
from yoloq.graph.export import INPUT
from yoloq.graph.known_shapes import settled_graph

PIXELS = Steps((1.0,), dtype="uint8")  # 0 to 255; the division is in the first convolution


def to_tflite(model: onnx.ModelProto, metadata: dict[str, str], bits: int = 8) -> bytes:
    """The bytes of a .tflite file of a graph.

    Args:
        model: float, or with Q/DQ as `lower_integer` puts it; its image is uint8 (1, H, W, 3).
        metadata: texts that travel in the file, by name.
        bits: of the integers that activations are held in, 8 or 16; a pair's range stays.

    Raises:
        EngineError: an operator has no translation; names it.
    """
    graph = settled_graph(model, "litert")
    state = GraphState(graph, bits)
    image = state.file.tensor(INPUT, graph.inputs[0].shape, "uint8", PIXELS)
    state.values[INPUT] = Value(image, (0, 1, 2, 3), PIXELS)
    for node in graph.nodes:
        if id(node) not in state.taken:
            _translate(state, node)
    outputs = [_output(state, tensor) for tensor in graph.outputs]
    return state.file.dumps([image], outputs, metadata)


def _translate(state: GraphState, node: gs.Node) -> None:
    if node.op not in NODES:
        raise EngineError(
            f"the litert engine has no translation for ONNX's {node.op} ({node.name}); train the "
            "network with other layers there, or take --engine onnxruntime"
        )
    NODES[node.op](state, node)


def _output(state: GraphState, tensor: gs.Tensor) -> int:
    """A result, in floats and with the axes that the graph gives it."""
    value = state.real(state.plain(tensor))
    state.file.graph.tensors[value.number].name = tensor.name
    return value.number
