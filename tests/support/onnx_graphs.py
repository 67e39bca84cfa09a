"""Running ONNX graphs as they are written, and looking things up in them."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import numpy_helper

from yoloq.engines.predictor import by_one
from yoloq.graph.export import INPUT

LEVELS = onnxruntime.GraphOptimizationLevel


def run(model: onnx.ModelProto, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    """Raw maps of a batch-1 graph whose every operator runs as it stands, nothing fused."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = LEVELS.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return by_one(lambda image: session.run(None, {INPUT: image}), images)


def fused_operators(model: onnx.ModelProto, folder: Path) -> Counter[str]:
    """The operators that ONNX Runtime makes of a graph."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.optimized_model_filepath = str(folder / "fused.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(model.SerializeToString(), options)
    return Counter(node.op_type for node in onnx.load(folder / "fused.onnx").graph.node)


class Lookup:
    """Nodes and initializers of a graph by the names of tensors."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes = list(model.graph.node)
        self.makers = {out: node for node in self.nodes for out in node.output}
        self.constants = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}

    def convolutions(self) -> list[onnx.NodeProto]:
        """In the order of the forward pass."""
        return [node for node in self.nodes if node.op_type == "Conv"]

    def pair(self, tensor: str) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None] | None:
        """Scale, zero-point and int8 values (of a weight) behind a DequantizeLinear, or None."""
        node = self.makers.get(tensor)
        if node is None or node.op_type != "DequantizeLinear":
            return None
        values, scale, zero_point = node.input
        return self.constants[scale], self.constants[zero_point], self.constants.get(values)
