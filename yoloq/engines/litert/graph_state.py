"""What is known of a graph's tensors while it is translated: where each is, and what it holds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from yoloq.engines.litert.tflite_file import NONE, Options, Steps, TfliteFile

Order = tuple[int, ...]
FIXED = {8: Steps((1 / 256,), -128), 16: Steps((1 / 32768,), 0, "int16")}  # of a LOGISTIC's result
LARGEST = 32767  # integer of 16 bits


@dataclass(frozen=True)
class Value:
    """A tensor of the file that holds one of the graph.

    Attributes:
        number: in the file.
        order: which axis of the graph's tensor each axis of the file's is.
        steps: of integers; None: it holds floats.
    """

    number: int
    order: Order
    steps: Steps | None = None


class GraphState:
    """The values of a graph's tensors, and the file that they are in.

    Attributes:
        values: by name of the graph's tensor.
        weights: constants that stand behind a DequantizeLinear: integers and scales.
        taken: ids of nodes that the translation of another took along.
    """

    def __init__(self, graph: gs.Graph, bits: int) -> None:
        self.file = TfliteFile()
        self.bits = bits
        self.values: dict[str, Value] = {}
        self.weights: dict[str, tuple[NDArray[np.int8], NDArray[np.float32]]] = {}
        self.taken: set[int] = set()
        self.outputs = {tensor.name for tensor in graph.outputs}
        self._made: dict[tuple[Any, ...], Value] = {}  # what was added for a value

    def value(self, tensor: gs.Tensor, order: Order | None = None) -> Value:
        """Of a tensor, with its axes in an order; None: in any."""
        if isinstance(tensor, gs.Constant) and tensor.name not in self.values:
            self.values[tensor.name] = self.constant(tensor.name, tensor.values)
        found = self.values[tensor.name]
        return found if order is None else self.reordered(found, order)

    def plain(self, tensor: gs.Tensor) -> Value:
        """Of a tensor, with its axes as the graph has them."""
        value = self.value(tensor)
        return self.reordered(value, tuple(range(len(value.order))))

    def constant(self, name: str, values: NDArray[Any], steps: Steps | None = None) -> Value:
        """Values that the file holds."""
        return Value(self.file.constant(name, values, steps), tuple(range(values.ndim)), steps)

    def numbers(self, name: str, values: Sequence[int]) -> Value:
        """A constant of whole numbers, such as a shape."""
        return self.constant(name, np.array(values, np.int32))

    def emit(
        self,
        operator: str,
        inputs: Sequence[Value],
        tensor: gs.Tensor,
        order: Order,
        steps: Steps | None = None,
        options: Options = NONE,
        name: str = "",
    ) -> None:
        """Add the operator that writes a tensor of the graph.

        Args:
            options: of the operator in the schema.
            name: of the tensor in the file; empty: its own.
        """
        shape = [tensor.shape[axis] for axis in order]
        made = self.step(name or tensor.name, operator, inputs, shape, order, steps, options)
        self.values[tensor.name] = made

    def step(
        self,
        name: str,
        operator: str,
        inputs: Sequence[Value],
        shape: Sequence[int],
        order: Order,
        steps: Steps | None = None,
        options: Options = NONE,
    ) -> Value:
        """Add an operator with a result that the graph does not have."""
        dtype = "float32" if steps is None else steps.dtype
        number = self.file.tensor(name, shape, dtype, steps)
        self.file.add(operator, [each.number for each in inputs], [number], options)
        return Value(number, order, steps)

    def reordered(self, value: Value, order: Order) -> Value:
        """The value with its axes in another order."""
        if value.order == order:
            return value
        key = (value.number, order)
        if key not in self._made:
            moved = [value.order.index(axis) for axis in order]
            shape = [self.file.shape(value.number)[axis] for axis in moved]
            name = self._named(value, "transposed")
            axes = self.numbers(f"{name}_axes", moved)
            inputs = [value, axes]
            self._made[key] = self.step(name, "TRANSPOSE", inputs, shape, order, value.steps)
        return self._made[key]

    def real(self, value: Value) -> Value:
        """The value in floats."""
        if value.steps is None:
            return value
        key = (value.number, "real")
        if key not in self._made:
            shape, name = self.file.shape(value.number), self._named(value, "dequantized")
            self._made[key] = self.step(name, "DEQUANTIZE", [value], shape, value.order)
        return self._made[key]

    def integers(self, value: Value, steps: Steps) -> Value:
        """The value in integers of these steps."""
        if value.steps == steps:
            return value
        if value.steps is not None and (value.steps.dtype, steps.dtype) == ("uint8", "int16"):
            value = self.real(value)  # LiteRT does not go there at once
        key = (value.number, steps)
        if key not in self._made:
            shape, name = self.file.shape(value.number), self._named(value, "quantized")
            self._made[key] = self.step(name, "QUANTIZE", [value], shape, value.order, steps)
        return self._made[key]

    def steps(self, node: gs.Node) -> Steps:
        """Of a QuantizeLinear."""
        scale, zero = float(node.inputs[1].values), node.inputs[2].values
        zero_point = int(zero) - (128 if zero.dtype == np.uint8 else 0)
        if self.bits == 8:
            return Steps((float(np.float32(scale)),), zero_point)
        most = max(127 - zero_point, 128 + zero_point if zero_point else 0)
        return Steps((float(np.float32(scale * most / LARGEST)),), 0, "int16")

    def wanted(self, tensor: gs.Tensor) -> Steps | None:
        """The steps in which everything reads a tensor; None: something reads it otherwise."""
        readers = tensor.outputs
        if tensor.name in self.outputs or any(user.op != "QuantizeLinear" for user in readers):
            return None
        found = {self.steps(user) for user in readers}
        return found.pop() if len(found) == 1 else None

    def computed(self, node: gs.Node, result: gs.Tensor | None = None) -> Steps | None:
        """The steps of a node's result where it computes in integers; None: it does in floats.

        Args:
            result: what it writes with all that it takes along; None: its output.
        """
        for tensor in node.inputs:
            value = self.values.get(tensor.name)
            held = tensor.name in self.weights or (value is not None and value.steps is not None)
            if not held and not (node.op == "Conv" and isinstance(tensor, gs.Constant)):
                return None
        steps = self.wanted(node.outputs[0] if result is None else result)
        return FIXED[self.bits] if steps is not None and node.op == "Sigmoid" else steps

    def _named(self, value: Value, what: str) -> str:
        return f"{self.file.graph.tensors[value.number].name}_{what}_{len(self._made)}"
