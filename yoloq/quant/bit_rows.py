"""Integers of few bits, side by side in bytes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.integer[Any]]


def pack(integers: Integers, bits: int) -> NDArray[np.uint8]:
    """Two's complement at so many bits, the lowest first: two values of 4 bits share a byte.

    With 4 bits that is how ONNX stores its INT4. The last byte is filled up with zeros.
    """
    places = integers.reshape(-1, 1).astype(np.int16) >> np.arange(bits)
    return np.packbits((places & 1).astype(np.uint8), bitorder="little")


def unpack(
    packed: NDArray[np.uint8], bits: int, count: int, signed: bool = True
) -> NDArray[np.int16]:
    """The (count,) integers that `pack` wrote.

    Args:
        signed: the highest bit is the sign; else they are from 0 to 2^bits - 1.

    Raises:
        ValueError: there are fewer.
    """
    if len(packed) < size_of(bits, count):
        raise ValueError(f"{len(packed)} bytes do not hold {count} values of {bits} bits")
    places = np.unpackbits(packed, count=bits * count, bitorder="little").reshape(count, bits)
    values = places.astype(np.int16) @ (1 << np.arange(bits, dtype=np.int16))
    return values - ((values >> (bits - 1)) << bits) if signed else values


def size_of(bits: int, count: int) -> int:
    """Bytes that so many integers take."""
    return -(-bits * count // 8)
