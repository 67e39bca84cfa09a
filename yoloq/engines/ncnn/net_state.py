"""What is known of a graph's tensors while it is translated: which blob holds each."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from yoloq.base.errors import EngineError
from yoloq.engines.ncnn.net_file import NetFile, Parameters, floats

INT8, FLOAT32 = 3, 1  # of a Cast
MOST = 4  # axes of a blob
SIZES = {1: (0,), 2: (1, 0), 3: (2, 1, 0), 4: (2, 11, 1, 0)}  # parameters of a shape's axes
PRODUCT = 2  # of a BinaryOp


class NetState:
    """The blobs of a graph's tensors, and the file that they are in.

    Attributes:
        blobs: by name of the graph's tensor.
        pairs: what stands behind a pair: the tensor that is rounded, and the scale.
        weights: constants behind a DequantizeLinear: integers and scales.
        taken: ids of nodes that the translation of another took along.
    """

    def __init__(self, graph: gs.Graph, file: NetFile) -> None:
        self.file = file
        self.blobs = {tensor.name: tensor.name for tensor in graph.inputs}
        self.pairs: dict[str, tuple[gs.Tensor, float]] = {}
        self.weights: dict[str, tuple[NDArray[np.int8], NDArray[np.float32]]] = {}
        self.taken: set[int] = set()
        self.outputs = {tensor.name for tensor in graph.outputs}

    def blob(self, tensor: gs.Tensor) -> str:
        """That of a tensor, in floats."""
        name = str(tensor.name)
        if name not in self.blobs and name in self.pairs:
            self._rounded(tensor)
        return self.blobs[name]

    def constant(self, name: str, values: NDArray[Any]) -> str:
        """A blob of values that the file holds, without an axis of images."""
        self.file.add("MemoryData", (), (name,), sizes(values.shape), floats(values))
        return name

    def integers(self, tensor: gs.Tensor) -> tuple[str, float]:
        """The blob of int8 of what stands behind a pair, and the scale."""
        source, scale = self.pairs[tensor.name]
        name = f"{tensor.name}_int8"
        if name not in self.blobs:
            weights = floats(np.array([1 / scale]))
            self.file.add("Quantize", [self.blob(source)], [name], {0: 1}, weights)
            self.blobs[name] = name
        return name, scale

    def emit(
        self,
        kind: str,
        inputs: Sequence[str],
        node: gs.Node,
        parameters: Parameters | None = None,
        weights: bytes = b"",
        result: gs.Tensor | None = None,
    ) -> None:
        """Add the layer of a node.

        Args:
            result: what it writes with all that it takes along; None: its outputs.
        """
        tensors = node.outputs if result is None else [result]
        names = [tensor.name for tensor in tensors]
        self.file.add(kind, inputs, names, parameters, weights, node.name)
        self.blobs |= dict(zip(names, names, strict=True))

    def _rounded(self, tensor: gs.Tensor) -> None:
        """What a pair leaves of a tensor, for a layer that computes in floats."""
        integers, scale = self.integers(tensor)
        cast, name = f"{tensor.name}_cast", str(tensor.name)
        self.file.add("Cast", [integers], [cast], {0: INT8, 1: FLOAT32})
        self.file.add("BinaryOp", [cast], [name], {0: PRODUCT, 1: 1, 2: scale})
        self.blobs[name] = name


def sizes(shape: Sequence[int]) -> dict[int, int]:
    """Parameters that say the shape of a blob.

    Raises:
        EngineError: it has more axes than a blob can have.
    """
    if len(shape) not in SIZES:
        raise EngineError(
            f"the ncnn engine has no blobs of {len(shape)} axes; take --engine onnxruntime"
        )
    return dict(sorted(zip(SIZES[len(shape)], map(int, shape), strict=True)))


def axis_of(axis: int, tensor: gs.Tensor) -> int:
    """Of a blob, that has no axis of images.

    Raises:
        EngineError: it is that of images.
    """
    found = axis % len(tensor.shape) - 1
    if found < 0:
        raise EngineError(
            f"the ncnn engine has one image at a time, and {tensor.name} is used along its images; "
            "take --engine onnxruntime"
        )
    return int(found)
