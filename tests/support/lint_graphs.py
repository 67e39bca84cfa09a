"""Small ONNX graphs by hand, to put Q/DQ where it belongs and where it does not."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import TensorProto, helper, numpy_helper

CHANNELS = 4
FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


class Net:
    """A graph that grows node by node; tensors and nodes are named after the operator and a number.

    The input is `x`, (1, 4, 8, 8) in FP32.
    """

    def __init__(self, opset: int = 19, float_type: int = FLOAT) -> None:
        self.opset = opset
        self.dtype = helper.tensor_dtype_to_np_dtype(float_type)
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[TensorProto] = []
        self.domains: set[str] = set()

    def add(self, op: str, *inputs: str, domain: str = "", outputs: int = 1, **attributes) -> str:
        """A node; returns its (first) output."""
        name = f"{op}_{len(self.nodes)}"
        made = [name] + [f"{name}_{i}" for i in range(1, outputs)]
        self.domains.add(domain)
        node = helper.make_node(op, inputs, made, name, domain=domain, **attributes)
        self.nodes.append(node)
        return name

    def constant(self, values: ArrayLike, dtype: Any = None) -> str:
        """An initializer."""
        name = f"constant_{len(self.initializers)}"
        array = np.asarray(values, self.dtype if dtype is None else dtype)
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def q(self, x: str, scale: ArrayLike = 0.1, zero: Any = 0, dtype: Any = np.int8, **more) -> str:
        """Q alone; no zero-point where `zero` is None."""
        return self._linear("QuantizeLinear", x, scale, zero, dtype, more)

    def dq(
        self, x: str, scale: ArrayLike = 0.1, zero: Any = 0, dtype: Any = np.int8, **more
    ) -> str:
        """DQ alone; no zero-point where `zero` is None."""
        return self._linear("DequantizeLinear", x, scale, zero, dtype, more)

    def _linear(self, op: str, x: str, scale: ArrayLike, zero: Any, dtype: Any, more: Any) -> str:
        inputs = [x, scale if isinstance(scale, str) else self.constant(scale)]
        if zero is not None:
            inputs.append(self.constant(np.broadcast_to(zero, np.shape(scale)), dtype))
        return self.add(op, *inputs, **more)

    def pair(self, x: str, scale: ArrayLike = 0.1, zero: Any = 0, dtype: Any = np.int8) -> str:
        """Q and DQ."""
        return self.dq(self.q(x, scale, zero, dtype), scale, zero, dtype)

    def weight(self, shape: Sequence[int] = (CHANNELS, CHANNELS, 1, 1)) -> str:
        """An int8 weight with a scale for each index of axis 0, and its DQ."""
        values = np.arange(np.prod(shape)).reshape(shape) % 100
        return self.dq(self.constant(values, np.int8), np.full(shape[0], 0.01), axis=0)

    def conv(self, x: str, weight: str | None = None, op: str = "Conv") -> str:
        """A convolution with a quantized weight, unless another is given."""
        return self.add(op, x, weight or self.weight())

    def float_conv(self, x: str, channels: int = CHANNELS) -> str:
        """A convolution with a float weight."""
        return self.conv(x, self.constant(np.ones((channels, CHANNELS, 1, 1))))

    def silu(self, x: str) -> str:
        """Sigmoid and Mul."""
        return self.add("Mul", x, self.add("Sigmoid", x))

    def block(self, x: str, scale: float = 0.1) -> str:
        """A quantized convolution with SiLU."""
        return self.silu(self.conv(self.pair(x, scale)))

    def upsample(self, x: str, **attributes: Any) -> str:
        """A Resize to twice the size; its scales are FP32 in every graph."""
        scales = self.constant([1, 1, 2, 2], np.float32)
        return self.add("Resize", x, "", scales, **attributes)

    def model(self, *outputs: str, types: Sequence[int] = ()) -> onnx.ModelProto:
        """The model; outputs are FP32 unless said otherwise, and state no shape."""
        types = types or [FLOAT] * len(outputs)
        values = [helper.make_tensor_value_info(*o, None) for o in zip(outputs, types, strict=True)]
        image = helper.make_tensor_value_info("x", FLOAT, (1, CHANNELS, 8, 8))
        graph = helper.make_graph(self.nodes, "net", [image], values, self.initializers)
        opsets = [helper.make_opsetid(d, 1 if d else self.opset) for d in self.domains | {""}]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)
