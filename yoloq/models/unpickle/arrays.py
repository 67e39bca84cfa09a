"""NumPy's pickled types as plain data: scalars become numbers, arrays become tensors."""

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from yoloq.models.unpickle.stub import RefusedError

NUMBERS = "biuf"  # NumPy's kinds of data types that hold numbers
TEXT, OBJECT = "U", "O"


class Dtype:
    """A numpy data type: its code, such as `f8`, and its byte order."""

    def __init__(self, code: str, *_: Any) -> None:
        if not isinstance(code, str):  # the text of nested lists may have no end
            raise RefusedError("a data type without a name")
        self.code = code
        self.order: Literal["<", ">", "="] = "="

    def __setstate__(self, state: Any) -> None:
        self.order = state[1] if state[1] in ("<", ">") else "="

    def plain(self, kinds: str = NUMBERS) -> np.dtype[Any]:
        """The data type itself; objects, and what else is not of these kinds, are refused."""
        kind = np.dtype(self.code)
        if kind.kind not in kinds:
            raise RefusedError(f"an array of {self.code!r}")
        return kind.newbyteorder(self.order)


class Array:
    """An ndarray, whose shape, type and bytes come after it; `texts` are those of one of texts."""

    def __init__(self, *_: Any) -> None:
        self.tensor = torch.empty(0)
        self.texts: list[str] = []

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        kind = np.dtype(dtype.code).kind if isinstance(dtype, Dtype) else ""
        if kind == TEXT:
            self.texts = np.frombuffer(data, dtype.plain(TEXT)).tolist()
        elif kind == OBJECT:
            self.texts = [text for text in data if isinstance(text, str)]
        if not kind or kind not in NUMBERS:
            return  # a record of training, which nothing here reads
        flat = np.frombuffer(data, dtype.plain())
        values = flat.reshape(tuple(shape), order="F" if fortran else "C")
        self.tensor = torch.from_numpy(values.astype(values.dtype.newbyteorder("=")))


def from_buffer(data: Any, dtype: Any, shape: Any, order: str) -> Array:
    """An ndarray as pickle protocol 5 writes it."""
    array = Array()
    array.__setstate__((1, shape, dtype, order == "F", data))
    return array


def scalar(dtype: Dtype, data: bytes = b"") -> Any:
    """A numpy scalar as a Python number or text."""
    return np.frombuffer(data, dtype.plain(NUMBERS + TEXT))[0].item()


def device_tensor(data: Any, *_: Any) -> Tensor:
    """A tensor that torch wrote through NumPy or the CPU: from MPS, DirectML and the like."""
    return data.tensor if isinstance(data, Array) else data
