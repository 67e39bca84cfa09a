"""The activations that stand behind convolutions: how an exported graph writes each, what it gives.

What ONNX Runtime 1.31 makes of them between Q/DQ on an integer convolution (8 convolutions of 64
channels, 40 x 40, two threads, AVX-512 VNNI; FP32 takes 16 ms with each but Mish, 25):

    Relu, Clip     folded into the convolution where the pair behind them stands for no value that
                   they cut off, and no pair stands before them: 5 ms; with one before: 8
    LeakyRelu      QLinearLeakyRelu, a table of 256 results: 6 ms
    SiLU           QLinearSigmoid and QLinearMul, with a pair on the sigmoid as well: 7 ms
    HardSwish      float between two pairs: 6 ms; with a pair on its gate, too: 10
    Mish           float between two pairs: 22 ms, nearly all of it Softplus and Tanh
    without a pair on the convolution's output: it convolves in float and dequantizes its weight
                   every time, 24 ms
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

Values = NDArray[np.float64]

FLAT = 0.015  # of a result: steps spent on inputs that change it by less are wasted
POINTS = 4096  # on which a function is looked at
BELOW = 1 - 1e-6  # a range that ends at a bound of Clip must not end above it by a rounding


@dataclass(frozen=True)
class Activation:
    """One row: an activation as a chain of operators that begins at a convolution's output.

    Attributes:
        name: torch's.
        operators: each reads the result of the one before, and the convolution's output, if two.
        function: (inputs, first node) -> results.
        folds: whether ONNX Runtime takes it for a clip, which rounding to integers does anyway.
        inside: range of the result of an operator of the chain that has an integer kernel.
    """

    name: str
    operators: tuple[str, ...]
    function: Callable[[Values, gs.Node], Values]
    folds: bool = False
    inside: Mapping[str, tuple[float, float]] = field(default_factory=dict)


def _clip(x: Values, node: gs.Node) -> Values:
    low, high = (_bound(node, at, default) for at, default in ((1, -np.inf), (2, np.inf)))
    return np.clip(x, low, high)


def _bound(node: gs.Node, at: int, default: float) -> float:
    tensor = node.inputs[at] if len(node.inputs) > at else None
    return float(tensor.values) if isinstance(tensor, gs.Constant) else default


def _leaky(x: Values, node: gs.Node) -> Values:
    return np.where(x < 0, node.attrs.get("alpha", 0.01) * x, x)


def _hard_sigmoid(x: Values, node: gs.Node) -> Values:
    return np.clip(node.attrs.get("alpha", 0.2) * x + node.attrs.get("beta", 0.5), 0, 1)


def _elu(x: Values, node: gs.Node) -> Values:
    return np.where(x < 0, node.attrs.get("alpha", 1.0) * np.expm1(np.minimum(x, 0)), x)


def _silu(x: Values, _: gs.Node) -> Values:
    return x * _sigmoid(x)


def _sigmoid(x: Values, _: Any = None) -> Values:
    return 0.5 + 0.5 * np.tanh(x / 2)  # without the overflow of exp(-x)


ACTIVATIONS = (  # the longer chain first, where one begins as another
    Activation("SiLU", ("Sigmoid", "Mul"), _silu, inside={"Sigmoid": (0, 1)}),
    Activation("Mish", ("Softplus", "Tanh", "Mul"), lambda x, _: x * np.tanh(np.logaddexp(0, x))),
    Activation("Hardswish", ("HardSwish",), lambda x, _: x * np.clip(x / 6 + 0.5, 0, 1)),
    Activation("Hardswish", ("HardSigmoid", "Mul"), lambda x, node: x * _hard_sigmoid(x, node)),
    Activation("ReLU", ("Relu",), lambda x, _: np.maximum(x, 0), folds=True),
    Activation("ReLU6, Hardtanh", ("Clip",), _clip, folds=True),
    Activation("LeakyReLU", ("LeakyRelu",), _leaky),
    Activation("ELU", ("Elu",), _elu),
    Activation("Hardsigmoid", ("HardSigmoid",), _hard_sigmoid),
    Activation("Sigmoid", ("Sigmoid",), _sigmoid),
    Activation("Tanh", ("Tanh",), lambda x, _: np.tanh(x)),
)


@dataclass(frozen=True)
class Activated:
    """An activation in a graph: its row and its nodes, in their order."""

    row: Activation
    nodes: tuple[gs.Node, ...]

    @property
    def result(self) -> gs.Variable:
        """What it writes."""
        return self.nodes[-1].outputs[0]

    def __call__(self, x: Values) -> Values:
        """Its function, of inputs in any shape."""
        return self.row.function(x, self.nodes[0])

    @property
    def bounds(self) -> tuple[float, float]:
        """Between which values a clip leaves all that it reads."""
        low, high = self(np.array([-np.inf, np.inf]))
        return float(low), float(high) * BELOW


def activation_behind(tensor: gs.Variable) -> Activated | None:
    """The activation that reads a tensor; None where there is none that the table knows."""
    found = (Activated(row, _chain(tensor, row.operators)) for row in ACTIVATIONS)
    return next((each for each in found if each.nodes), None)


def _chain(tensor: gs.Variable, operators: tuple[str, ...]) -> tuple[gs.Node, ...]:
    """The nodes of such a chain behind a tensor, which read nothing else; none where it is none."""
    nodes: list[gs.Node] = []
    read = [tensor]
    for op in operators:
        node = next((user for user in read[-1].outputs if user.op == op), None)
        if node is None:
            return ()
        nodes.append(node)
        read.append(node.outputs[0])
    others = (t for node in nodes for t in node.inputs if not isinstance(t, gs.Constant))
    return tuple(nodes) if all(any(t is r for r in read) for t in others) else ()


def useful(
    function: Callable[[Values], Values], low: float, high: float, most: float = np.inf
) -> tuple[tuple[float, float], tuple[float, float]]:
    """The part of a function's inputs that is worth steps of integers, and its range of results.

    Cut off are both ends, as far as results there are within `FLAT` of that at the end, or within
    half a step of the inputs if that is less.

    Args:
        low, high: of the inputs.
        most: above which results are clipped.
    """
    x = np.linspace(low, high, POINTS)
    y = np.minimum(function(x), most)
    near = min(FLAT, (high - low) / 255 / 2)
    moved = [np.flatnonzero(np.abs(y - y[end]) > near) for end in (0, -1)]
    if moved[0].size:
        x = x[max(moved[0][0] - 1, 0) : moved[1][-1] + 2]
    return (float(x[0]), float(x[-1])), (float(y.min()), float(y.max()))
