"""torch's zip files: a pickle, and a part for each storage. Nothing is unpacked to a disk."""

import sys
import zipfile
from pathlib import Path
from typing import IO, Any

import torch

from yoloq.base.archive import MOST_DIRECTORY, directory_size
from yoloq.base.errors import CheckpointError
from yoloq.models.unpickle.allowance import TIMES, Allowance
from yoloq.models.unpickle.opcodes import Bounded, Resolve, Unpickler
from yoloq.models.unpickle.storages import Storage, bytes_of, filled
from yoloq.models.unpickle.stub import RefusedError

PICKLE = "data.pkl"
PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # what torch itself reads
ORDERS = {b"little": "little", b"big": "big"}


def check_directory(stream: IO[bytes], size: int) -> None:
    """Raise a CheckpointError where the table of contents alone would take much memory.

    The text names no file.
    """
    directory = directory_size(stream, size)
    if directory > MOST_DIRECTORY:
        raise CheckpointError(
            f"its table of contents has {directory} bytes: it is no checkpoint; fetch it again"
        )


def check_parts(archive: zipfile.ZipFile, size: int) -> None:
    """Raise a CheckpointError where parts would grow, or two have one name.

    torch stores parts as they are. One whose parts come to more than the file is a bomb, or has
    parts that lie over each other. The text names no file.
    """
    parts = archive.infolist()
    total = sum(part.file_size for part in parts)
    if total > TIMES * size:
        raise CheckpointError(
            f"unpacks to {total} bytes, from {size}: a zip bomb, or damaged; fetch it again"
        )
    if len({part.filename for part in parts}) < len(parts):
        raise CheckpointError("has two parts of one name: it is damaged, or forged; fetch it again")
    if odd := [part.filename for part in parts if part.compress_type not in PACKED]:
        raise CheckpointError(
            f"{odd[0][:80]!r} in it is packed in a way that torch does not read; save it again"
        )


def root_of(archive: zipfile.ZipFile) -> str:
    """The folder that all parts are in; the first part is in it."""
    return archive.namelist()[0].partition("/")[0]


def read_zip(file: Path, resolve: Resolve, allowance: Allowance) -> Any:
    """The content of a file that `check_kind` passed."""
    with zipfile.ZipFile(file) as archive:
        storages = _Storages(archive, allowance)
        part = archive.getinfo(f"{storages.root}/{PICKLE}")
        with archive.open(part) as stream:
            bounded = Bounded(stream, part.file_size)
            return Unpickler(bounded, allowance, resolve, storages.find).load()


class _Storages:
    """The storages of an archive, each read once."""

    def __init__(self, archive: zipfile.ZipFile, allowance: Allowance) -> None:
        self.archive, self.allowance = archive, allowance
        self.root = root_of(archive)
        self.known: dict[str, torch.UntypedStorage] = {}
        self.order = self._order()

    def _order(self) -> str:
        try:
            part = self.archive.getinfo(f"{self.root}/byteorder")
        except KeyError:
            return "little"
        with self.archive.open(part) as stream:
            return ORDERS[stream.read(8)]

    def find(self, saved: Any) -> Storage:
        """What a pickle means by `("storage", kind, key, location, numel)`."""
        if not (isinstance(saved, tuple) and len(saved) == 5 and saved[0] == "storage"):
            raise RefusedError("something that is no storage")
        _, kind, key, _, numel = saved
        wanted = bytes_of(kind, numel)
        if not isinstance(key, str):
            raise RefusedError("a storage without a name")
        if key not in self.known:
            self.known[key] = self._read(key, kind.dtype)
        if self.known[key].nbytes() < wanted:
            raise ValueError(
                f"storage {key[:20]!r} is shorter than the {wanted} bytes it stands for"
            )
        return Storage(self.known[key], kind.dtype)

    def _read(self, key: str, dtype: torch.dtype) -> torch.UntypedStorage:
        part = self.archive.getinfo(f"{self.root}/data/{key}")
        self.allowance.take_bytes(part.file_size)
        with self.archive.open(part) as stream:
            storage = filled(part.file_size, stream.read)
            stream.read(1)  # at its end the sum of the bytes is checked
        if self.order != sys.byteorder:
            storage.byteswap(dtype)
        return storage
