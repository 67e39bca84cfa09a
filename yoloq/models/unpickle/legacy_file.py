"""torch's files from before 1.6: pickles one behind the other, then the bytes of the storages."""

import struct
from pathlib import Path
from typing import Any

import torch

from yoloq.models.unpickle.allowance import Allowance
from yoloq.models.unpickle.opcodes import Bounded, Resolve, Unpickler
from yoloq.models.unpickle.storages import Storage, StorageKind, bytes_of, fill
from yoloq.models.unpickle.stub import RefusedError

HEADS = 3  # pickles before the content: magic number, version, sizes of C's types
COUNT = struct.Struct("<q")


def read_legacy(file: Path, resolve: Resolve, allowance: Allowance) -> Any:
    """The content of a file that `check_kind` passed."""
    with open(file, "rb") as stream:
        bounded = Bounded(stream, file.stat().st_size)
        for _ in range(HEADS):
            Unpickler(bounded, allowance, resolve).load()
        storages = _Storages(allowance)
        content = Unpickler(bounded, allowance, resolve, storages.find).load()
        keys = Unpickler(bounded, allowance, resolve).load()
        storages.fill(keys, bounded)
    return content


class _Storages:
    """Storages as the pickle names them; their bytes come behind it."""

    def __init__(self, allowance: Allowance) -> None:
        self.allowance = allowance
        self.known: dict[Any, Storage] = {}
        self.views: dict[Any, torch.UntypedStorage] = {}

    def find(self, saved: Any) -> Any:
        """What a pickle means by a storage, or by a module with its source: that is not read."""
        if isinstance(saved, tuple) and len(saved) == 4 and saved[0] == "module":
            return saved[1]
        if not (isinstance(saved, tuple) and len(saved) == 6 and saved[0] == "storage"):
            raise RefusedError("something that is no storage")
        _, kind, key, _, numel, view = saved
        wanted = bytes_of(kind, numel)
        _check_name(key)
        if key not in self.known:
            self.allowance.take_bytes(wanted)
            self.known[key] = Storage(torch.UntypedStorage(wanted), kind.dtype)
        if self.known[key].whole.nbytes() < wanted:
            raise ValueError(f"storage {key!r} is shorter than the {wanted} bytes it stands for")
        return Storage(self._part(key, kind, view), kind.dtype)

    def _part(self, key: Any, kind: StorageKind, view: Any) -> torch.UntypedStorage:
        """The whole storage, or what a view shows of it."""
        whole = self.known[key].whole
        if view is None:
            return whole
        name, offset, numel = view
        _check_name(name)
        start, length = bytes_of(kind, offset), bytes_of(kind, numel)
        if start + length > whole.nbytes():
            raise ValueError(f"a view of storage {key!r} reaches beyond it")
        if name not in self.views:
            self.views[name] = whole[start : start + length]
        return self.views[name]

    def fill(self, keys: Any, stream: Bounded) -> None:
        """Read the bytes of all storages, in the order of their keys."""
        if not isinstance(keys, list) or set(keys) != set(self.known):
            raise ValueError("the storages in it are not those that it names")
        for key in keys:
            storage = self.known[key]
            (numel,) = COUNT.unpack(stream.read(COUNT.size))
            if numel * storage.dtype.itemsize != storage.whole.nbytes():
                raise ValueError(f"storage {key!r} has {numel} numbers, and is said to have others")
            fill(storage.whole, stream.read)


def _check_name(key: Any) -> None:
    if not isinstance(key, str | int):
        raise RefusedError("a storage without a name")
