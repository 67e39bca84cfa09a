"""A .tflite file in the making: tensors, constants, operators, by the schema of LiteRT."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from yoloq.engines import packages

VERSION = 3  # of the format
IDENTIFIER = b"TFL3"
INT8_VERSION = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3}  # of an operator in int8; of others 2
LATEST = {"RESHAPE": 1, "HARD_SWISH": 1, "ELU": 1, "LEAKY_RELU": 2}  # in integers of any kind

Options = tuple[str, Mapping[str, Any]]  # table of an operator in the schema, and its values
NONE: Options = ("", {})


@dataclass(frozen=True)
class Steps:
    """What integers stand for: scale * (integer - zero_point).

    Attributes:
        scale: one, or one for each channel.
        dtype: of the integers.
        axis: of the channels.
    """

    scale: tuple[float, ...]
    zero_point: int = 0
    dtype: str = "int8"
    axis: int = 0


class TfliteFile:
    """One graph; tensors are numbered in the order in which they are made."""

    def __init__(self) -> None:
        self.schema = packages.litert_schema()
        self.buffers = [self.schema.BufferT()]  # the first is that of all that has no constant
        self.codes: list[tuple[str, int]] = []
        self.graph = self.schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []

    def tensor(
        self, name: str, shape: Sequence[int], dtype: DTypeLike, steps: Steps | None = None
    ) -> int:
        """A tensor that an operator writes, or the image; returns its number."""
        made = self.schema.TensorT()
        made.name, made.shape, made.buffer = name, [int(size) for size in shape], 0
        made.type = getattr(self.schema.TensorType, np.dtype(dtype).name.upper())
        if steps is not None:
            made.quantization = self._quantization(steps)
        self.graph.tensors.append(made)
        return len(self.graph.tensors) - 1

    def constant(self, name: str, values: NDArray[Any], steps: Steps | None = None) -> int:
        """A tensor with values of its own; returns its number."""
        number = self.tensor(name, values.shape, values.dtype, steps)
        buffer = self.schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        self.buffers.append(buffer)
        self.graph.tensors[number].buffer = len(self.buffers) - 1
        return number

    def shape(self, number: int) -> tuple[int, ...]:
        """Of a tensor."""
        return tuple(self.graph.tensors[number].shape)

    def add(
        self, name: str, inputs: Sequence[int], outputs: Sequence[int], options: Options
    ) -> None:
        """An operator by its name in the schema, as CONV_2D."""
        made = self.schema.OperatorT()
        made.inputs, made.outputs = list(inputs), list(outputs)
        made.opcodeIndex = self._code(name, outputs)
        kind, values = options
        if kind:
            made.builtinOptionsType = getattr(self.schema.BuiltinOptions, kind)
            made.builtinOptions = getattr(self.schema, f"{kind}T")()
            made.builtinOptions.__dict__.update(values)
        self.graph.operators.append(made)

    def dumps(
        self, inputs: Sequence[int], outputs: Sequence[int], metadata: dict[str, str]
    ) -> bytes:
        """The whole file."""
        schema = self.schema
        self.graph.inputs, self.graph.outputs = list(inputs), list(outputs)
        model = schema.ModelT()
        model.version, model.subgraphs = VERSION, [self.graph]
        model.operatorCodes = [self._operator_code(*code) for code in self.codes]
        model.metadata = []
        for name, text in metadata.items():
            buffer, entry = schema.BufferT(), schema.MetadataT()
            buffer.data = np.frombuffer(text.encode(), np.uint8)
            entry.name, entry.buffer = name, len(self.buffers)
            self.buffers.append(buffer)
            model.metadata.append(entry)
        model.buffers = self.buffers
        builder = packages.flatbuffers().Builder(1 << 20)
        builder.Finish(model.Pack(builder), file_identifier=IDENTIFIER)
        return bytes(builder.Output())

    def _quantization(self, steps: Steps) -> Any:
        made = self.schema.QuantizationParametersT()
        made.scale = np.array(steps.scale, np.float32)
        made.zeroPoint = np.full(len(steps.scale), steps.zero_point, np.int64)
        made.quantizedDimension = steps.axis
        return made

    def _code(self, name: str, outputs: Sequence[int]) -> int:
        """Number of an operator in a version that has the type of what it writes."""
        kind, types = self.graph.tensors[outputs[0]].type, self.schema.TensorType
        version = 1
        if kind in (types.INT8, types.INT16):
            wanted = INT8_VERSION.get(name, 2) + (kind == types.INT16)
            version = min(wanted, LATEST.get(name, wanted))
        if (name, version) not in self.codes:
            self.codes.append((name, version))
        return self.codes.index((name, version))

    def _operator_code(self, name: str, version: int) -> Any:
        made = self.schema.OperatorCodeT()
        made.builtinCode = getattr(self.schema.BuiltinOperator, name)
        made.deprecatedBuiltinCode = min(made.builtinCode, 127)  # a byte, for old readers
        made.version = version
        return made
