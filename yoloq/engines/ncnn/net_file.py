"""A network of ncnn in the making: layers as lines of a .param file, their numbers in a .bin."""

import struct
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAGIC = 7767517  # of the text format
ARRAY = 23300  # the number of a parameter that is a list is -(this + its own)
FLOATS, INTEGERS = 0, 0x000D4B38  # what a flag in front of weights says of them
WORD = 4  # bytes that everything in a .bin is a multiple of

Parameter = int | float | Sequence[int]
Parameters = Mapping[int, Parameter]


@dataclass(frozen=True)
class Layer:
    """A layer: what ncnn calls it, the blobs it reads and writes, its numbered parameters."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parameters: Parameters
    weights: bytes = b""

    def line(self) -> str:
        """Of a .param file."""
        counts = f"{len(self.inputs)} {len(self.outputs)}"
        pairs = (_pair(*each) for each in self.parameters.items())
        start = f"{self.kind:<24} {self.name:<24} {counts}"
        return " ".join((start, *self.inputs, *self.outputs, *pairs))


class NetFile:
    """Layers in the order in which they run; a blob may be read as often as it is wanted."""

    def __init__(self) -> None:
        self.layers: list[Layer] = []

    def add(
        self,
        kind: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        parameters: Parameters | None = None,
        weights: bytes = b"",
        name: str = "",
    ) -> None:
        """A layer behind the others; without a name it is called after what it writes."""
        made = (tuple(inputs), tuple(outputs), parameters or {}, weights)
        self.layers.append(Layer(kind, name or outputs[0], *made))

    def dumps(self) -> tuple[str, bytes]:
        """The content of both files."""
        layers = list(_split(self.layers))
        blobs = sum(len(layer.outputs) for layer in layers)
        lines = [str(MAGIC), f"{len(layers)} {blobs}", *(layer.line() for layer in layers)]
        return "\n".join(lines) + "\n", b"".join(layer.weights for layer in layers)


def _split(layers: Sequence[Layer]) -> Iterable[Layer]:
    """Layers between which no blob has two readers: ncnn wants a Split there."""
    readers = Counter(name for layer in layers for name in layer.inputs)
    taken: Counter[str] = Counter()
    for layer in layers:
        inputs = []
        for name in layer.inputs:
            inputs.append(f"{name}_{taken[name]}_" if readers[name] > 1 else name)
            taken[name] += 1
        yield replace(layer, inputs=tuple(inputs))
        for name in layer.outputs:
            if (count := readers[name]) > 1:
                each = tuple(f"{name}_{number}_" for number in range(count))
                yield Layer("Split", f"{name}_split", (name,), each, {})


def _pair(number: int, value: Parameter) -> str:
    if isinstance(value, Sequence):
        return f"-{ARRAY + number}={','.join(map(str, (len(value), *value)))}"
    return f"{number}={value:.9e}" if isinstance(value, float) else f"{number}={value}"


def floats(values: NDArray[Any]) -> bytes:
    """Numbers as they stand in a .bin."""
    return np.ascontiguousarray(values, np.float32).tobytes()


def flagged(values: NDArray[Any]) -> bytes:
    """Weights, floats or int8, with the flag that says which."""
    if values.dtype != np.int8:
        return struct.pack("<I", FLOATS) + floats(values)
    data = np.ascontiguousarray(values).tobytes()
    return struct.pack("<I", INTEGERS) + data + bytes(-len(data) % WORD)
