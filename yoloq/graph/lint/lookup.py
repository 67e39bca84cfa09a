"""An ONNX graph to look things up in: who makes and reads a tensor, and how it is quantized."""

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from yoloq.graph.lint.nodes import (
    CASTS,
    CONVOLUTIONS,
    DEQUANTIZE,
    GATES,
    MOVES,
    PAIR,
    QUANTIZE,
    constant_value,
    inputs_of,
    joined,
    joins,
    kind,
    label,
    numbers,
)
from yoloq.graph.lint.valid import READ_WHOLE, DamagedError, checked, size

EDGES: dict[int, tuple[int, int]] = {
    TensorProto.INT8: (-128, 127),
    TensorProto.UINT8: (0, 255),
    TensorProto.INT16: (-32768, 32767),
    TensorProto.UINT16: (0, 65535),
}


@dataclass(frozen=True)
class Hit:
    """A place where a rule does not hold: the nodes to mend, and what is wrong there."""

    nodes: tuple[str, ...]
    message: str


@dataclass(frozen=True)
class Rounding:
    """How a Q or DQ node maps integers: scales and zero-points as plain numbers.

    A scale that the graph computes has no numbers; its tensor's name stands for it.
    """

    scale: tuple[float, ...] | str
    zero_point: tuple[float, ...] | str

    def __str__(self) -> str:
        if isinstance(self.scale, str) or isinstance(self.zero_point, str):
            return f"{self.scale}"
        scale = ", ".join(str(np.float32(number)) for number in self.scale[:1])
        shifted = any(self.zero_point)
        return f"{scale} with zero-point {self.zero_point[0]:.0f}" if shifted else scale


class Silu(NamedTuple):
    """The nodes of a convolution and its SiLU."""

    conv: onnx.NodeProto
    sigmoid: onnx.NodeProto
    product: onnx.NodeProto


class OnnxView:
    """The nodes of a valid model in the order of execution.

    Args:
        model: an ONNX model; local functions are unfolded. Not changed.

    Attributes:
        unimported: domains of nodes that the model does not import.

    Raises:
        DamagedError: the ONNX checker refuses it.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.initializers = {tensor.name: tensor for tensor in model.graph.initializer}
        self.model, self.unimported = checked(model)
        model = self.model
        graph = model.graph
        self.nodes = list(graph.node)
        self.outputs = {output.name for output in graph.output}
        self.opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
        self.makers: dict[str, onnx.NodeProto] = {}
        self.readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in self.nodes:
            self.makers |= {output: node for output in node.output if output}
            for tensor in dict.fromkeys(inputs_of(node)):
                self.readers[tensor].append(node)
        self.constant = self._constants()

    def _constants(self) -> set[str]:
        """Tensors that depend on no input of the graph."""
        found = set(self.initializers)
        for node in self.nodes:
            if kind(node) == "Constant" or (node.input and found.issuperset(inputs_of(node))):
                found.update(node.output)
        return found

    def of(self, *kinds: str) -> Iterator[onnx.NodeProto]:
        """The nodes of some operators."""
        return (node for node in self.nodes if kind(node) in kinds)

    @property
    def convolutions(self) -> Iterator[onnx.NodeProto]:
        """Convolutions and transposed convolutions."""
        return self.of(*CONVOLUTIONS)

    @property
    def pairs(self) -> Iterator[onnx.NodeProto]:
        """All Q and DQ nodes."""
        return self.of(*PAIR)

    @cached_property
    def types(self) -> dict[str, int]:
        """Element types of all tensors that ONNX can tell."""
        model = self.model
        # where it fails, the types that the file states remain
        with contextlib.suppress(onnx.shape_inference.InferenceError, RuntimeError, ValueError):
            model = onnx.shape_inference.infer_shapes(model)
        graph = model.graph
        infos = (*graph.input, *graph.value_info, *graph.output)
        types = {info.name: info.type.tensor_type.elem_type for info in infos}
        return types | {name: tensor.data_type for name, tensor in self.initializers.items()}

    @cached_property
    def silus(self) -> list["Silu"]:
        """Every Conv -> Sigmoid -> Mul, whatever Q/DQ stands between them."""
        return [silu for product in self.of("Mul") if (silu := self._silu(product))]

    def _silu(self, product: onnx.NodeProto) -> "Silu | None":
        for gate, value in (product.input[:2], product.input[1::-1]):
            sigmoid, conv = self.maker(gate), self.maker(value)
            if sigmoid is None or conv is None or kind(sigmoid) not in GATES:
                continue
            if kind(conv) in CONVOLUTIONS and self.maker(sigmoid.input[0]) is conv:
                return Silu(conv, sigmoid, product)
        return None

    def before(self, tensor: str, kinds: Iterable[str]) -> str:
        """The tensor in front of a chain of the given operators."""
        maker = self.makers.get(tensor)
        while maker is not None and kind(maker) in kinds:
            tensor = maker.input[0]
            maker = self.makers.get(tensor)
        return tensor

    def source(self, tensor: str) -> str:
        """The float tensor that a tensor is, once its Q/DQ pairs and casts are taken away."""
        return self.before(tensor, PAIR + CASTS)

    def maker(self, tensor: str) -> onnx.NodeProto | None:
        """What computes a tensor's values, Q/DQ and casts aside."""
        return self.makers.get(self.source(tensor))

    def dequantizer(self, tensor: str) -> onnx.NodeProto | None:
        """The DQ node that a tensor comes from; None where it was not rounded to integers."""
        maker = self.makers.get(self.before(tensor, CASTS))
        return maker if maker is not None and kind(maker) == DEQUANTIZE else None

    def users(self, tensor: str, through: Iterable[str] = CASTS) -> list[onnx.NodeProto]:
        """What reads a tensor, also behind operators that it goes through."""
        found, waiting = [], [tensor]
        while waiting:
            for node in self.readers.get(waiting.pop(), ()):
                if kind(node) in through:
                    waiting += node.output
                else:
                    found.append(node)
        return found

    def from_integers(self, tensor: str) -> bool:
        """Whether all of a tensor was rounded, also behind operators that only hand values on."""
        seen, waiting = {tensor}, [tensor]
        while waiting:
            maker = self.makers.get(self.before(waiting.pop(), (*CASTS, *MOVES)))
            if maker is None or not (kind(maker) == DEQUANTIZE or joins(maker)):
                return False
            if kind(maker) != DEQUANTIZE:
                waiting += (source for source in joined(maker) if source not in seen)
                seen.update(maker.input)
        return True

    def sides(self, conv: onnx.NodeProto) -> tuple[bool, bool]:
        """Whether a convolution's input and its weight come from integers."""
        return self.from_integers(conv.input[0]), self.dequantizer(conv.input[1]) is not None

    def quantized(self, node: onnx.NodeProto | None) -> bool:
        """Whether a node is a convolution that can run in integers."""
        return node is not None and kind(node) in CONVOLUTIONS and all(self.sides(node))

    def array(self, tensor: str) -> NDArray[Any] | None:
        """Values of a small constant; None where it is none, or is not in the file.

        Raises:
            DamagedError: its bytes do not fit its shape.
        """
        proto = self._proto(tensor)
        return None if proto is None or size(proto) > READ_WHOLE else self.weight(tensor)

    def weight(self, tensor: str) -> NDArray[Any] | None:
        """Values of a constant of any size; None where it is none, or is not in the file.

        Raises:
            DamagedError: its bytes do not fit its shape.
        """
        proto = self._proto(tensor)
        if proto is None or proto.data_location == TensorProto.EXTERNAL:
            return None
        try:
            return numpy_helper.to_array(proto)
        except (ValueError, TypeError, KeyError) as error:
            raise DamagedError(f"{tensor}: {error}") from None

    def dims(self, tensor: str) -> tuple[int, ...] | None:
        """Shape of a constant; None where the file does not state it."""
        proto = self._proto(self.source(tensor))
        return None if proto is None else tuple(proto.dims)

    def _proto(self, tensor: str) -> TensorProto | None:
        tensor = self.before(tensor, CASTS)
        maker = self.makers.get(tensor)
        return self.initializers.get(tensor) if maker is None else constant_value(maker)

    def affine(self, node: onnx.NodeProto) -> Rounding:
        """Scale and zero-point of a Q or DQ node."""
        scale = self.array(node.input[1])
        zero: tuple[float, ...] | str = (0.0,)
        if len(node.input) > 2 and node.input[2]:
            values = self.array(node.input[2])
            zero = node.input[2] if values is None else numbers(values)
        return Rounding(node.input[1] if scale is None else numbers(scale), zero)

    def span(self, node: onnx.NodeProto) -> tuple[float, float] | None:
        """Least and largest value that the integers of a Q or DQ node with one scale stand for.

        None where the file does not say.
        """
        affine = self.affine(node)
        integers = node.output[0] if kind(node) == QUANTIZE else node.input[0]
        written = node.input[2] if len(node.input) > 2 else ""
        edges = EDGES.get(
            self.types.get(written) or self.types.get(integers, TensorProto.UNDEFINED)
        )
        if edges is None or isinstance(affine.scale, str) or isinstance(affine.zero_point, str):
            return None
        if len(affine.scale) != 1 or len(affine.zero_point) != 1:
            return None
        low, high = ((edge - affine.zero_point[0]) * affine.scale[0] for edge in edges)
        return low, high

    def demanded(self, tensor: str) -> set[Rounding]:
        """The scales that the Q nodes right behind a tensor round it with."""
        users = self.users(tensor)
        return {self.affine(user) for user in users if kind(user) == QUANTIZE}


def listed(found: set[Rounding]) -> str:
    """Scales in one line."""
    texts = sorted(map(str, found))
    return ", ".join(texts[:3]) + (f" and {len(texts) - 3} more" if len(texts) > 3 else "")


def hits(
    nodes: Iterable[onnx.NodeProto], wrong: Callable[[onnx.NodeProto], str | None]
) -> Iterator[Hit]:
    """A hit for every node of which something is wrong."""
    for node in nodes:
        message = wrong(node)
        if message:
            yield Hit((label(node),), message)
