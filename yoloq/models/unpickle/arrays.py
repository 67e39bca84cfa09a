"""NumPy's pickled types as plain data: scalars become numbers, arrays become tensors."""

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from yoloq.models.unpickle.stub import RefusedError

NUMBERS = "biuf"  # NumPy's kinds of data types that hold numbers


class Dtype:
    """A numpy data type: its code, such as `f8`, and its byte order."""

    def __init__(self, code: str, *_: Any) -> None:
        self.code = code
        self.order: Literal["<", ">", "="] = "="

    def __setstate__(self, state: Any) -> None:
        self.order = state[1] if state[1] in ("<", ">") else "="

    def plain(self) -> np.dtype[Any]:
        """The data type itself; objects and texts, which no tensor holds, are refused."""
        kind = np.dtype(str(self.code))
        if kind.kind not in NUMBERS:
            raise RefusedError(f"an array of {self.code!r}")
        return kind.newbyteorder(self.order)


class Array:
    """An ndarray, whose shape, type and bytes come after it."""

    def __init__(self, *_: Any) -> None:
        self.tensor = torch.empty(0)

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        if not isinstance(dtype, Dtype) or np.dtype(str(dtype.code)).kind not in NUMBERS:
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
    """A numpy scalar as a Python number."""
    return np.frombuffer(data, dtype.plain())[0].item()


def device_tensor(data: Any, *_: Any) -> Tensor:
    """A tensor that torch wrote through NumPy or the CPU: from MPS, DirectML and the like."""
    return data.tensor if isinstance(data, Array) else data
