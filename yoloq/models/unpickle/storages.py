"""The numbers of tensors: storages that are no longer than the bytes the file has for them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from yoloq.models.unpickle.stub import RefusedError

CHUNK = 1 << 20  # bytes read at once
MODULES = ("torch", "torch.cuda", "torch.storage")
DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "UntypedStorage": torch.uint8,
}


@dataclass(frozen=True)
class StorageKind:
    """What a file calls a storage by, `torch.FloatStorage` for example."""

    dtype: torch.dtype


@dataclass(frozen=True)
class Storage:
    """Bytes, and the type of the numbers in them."""

    whole: torch.UntypedStorage
    dtype: torch.dtype


def kind_of(module: str, name: str) -> StorageKind | None:
    """The kind of storage that a pickled name means; None: it means none."""
    return StorageKind(DTYPES[name]) if module in MODULES and name in DTYPES else None


def bytes_of(kind: object, numel: object) -> int:
    """How many bytes so many numbers take.

    Raises:
        RefusedError: it is no kind of storage, or no number of them.
    """
    if not isinstance(kind, StorageKind) or type(numel) is not int or numel < 0:
        raise RefusedError("a storage of an unknown kind or length")
    return numel * kind.dtype.itemsize


def filled(size: int, read: Callable[[int], bytes]) -> torch.UntypedStorage:
    """A storage of so many bytes, read in parts.

    Raises:
        EOFError: there are fewer.
    """
    storage = torch.UntypedStorage(size)
    fill(storage, read)
    return storage


def fill(storage: torch.UntypedStorage, read: Callable[[int], bytes]) -> None:
    """Read the bytes of a storage in parts.

    Raises:
        EOFError: there are fewer.
    """
    target = torch.empty(0, dtype=torch.uint8).set_(storage).numpy()
    start = 0
    while start < len(target):
        part = read(min(CHUNK, len(target) - start))
        if not part:
            raise EOFError(f"a storage of {len(target)} bytes ends after {start}")
        target[start : start + len(part)] = np.frombuffer(part, np.uint8)
        start += len(part)
