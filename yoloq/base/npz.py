"""NumPy's .npz files: no pickles, and no more memory than the file explains."""

import contextlib
import math
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib.format import read_array_header_1_0, read_array_header_2_0, read_magic

from yoloq.base.archive import MOST_DIRECTORY, directory_size

START = b"PK\x03\x04"
TIMES, ROOM = 4, 256 << 20
"""An archive may unpack to so many times its size, and bytes besides: the histograms, boxes and
images of a run are some ten megabytes, and shrink to a tenth or less."""
HEADERS = {(1, 0): read_array_header_1_0, (2, 0): read_array_header_2_0}
DAMAGES = (zlib.error, zipfile.BadZipFile, EOFError, NotImplementedError)


@contextlib.contextmanager
def opened(file: Path) -> Iterator[Any]:
    """The arrays of a file by name, each read where it is asked for; `files` lists the names.

    Raises:
        OSError: it is not there, or cannot be read.
        ValueError: it is no such file, damaged, or asks for more memory than its size explains,
            as it opens or where an array is read; says which. An array of objects is refused.
    """
    try:
        _check(file)
        with np.load(file, allow_pickle=False) as data:
            yield data
    except DAMAGES as error:
        raise ValueError(f"is damaged ({type(error).__name__}: {error})") from None


def _check(file: Path) -> None:
    size = file.stat().st_size
    with open(file, "rb") as stream:
        if stream.read(len(START)) != START:
            raise ValueError("is no .npz file")
        if directory_size(stream, size) > MOST_DIRECTORY:
            raise ValueError("has a table of contents without measure")
        with zipfile.ZipFile(stream) as archive:
            _check_parts(archive, size)


def _check_parts(archive: zipfile.ZipFile, size: int) -> None:
    parts = archive.infolist()
    total = sum(part.file_size for part in parts)
    if total > TIMES * size + ROOM:
        raise ValueError(f"unpacks to {total} bytes, from {size}: a zip bomb, or damaged")
    for part in parts:
        if part.flag_bits & 1:
            raise ValueError(f"{part.filename[:80]!r} in it is encrypted")
        with archive.open(part) as stream:
            _check_header(stream, part)


def _check_header(stream: IO[bytes], part: zipfile.ZipInfo) -> None:
    """An array is made in the size that its header says, before its numbers are read."""
    try:
        shape, _, dtype = HEADERS[read_magic(stream)](stream)
    except DAMAGES:
        raise
    except Exception:  # a header is a text of Python's, and there are versions that are not known
        raise ValueError(f"{part.filename[:80]!r} in it has no header of an array") from None
    said = math.prod(shape) * dtype.itemsize
    if dtype.hasobject or min(shape, default=0) < 0 or said != part.file_size - stream.tell():
        raise ValueError(f"{part.filename[:80]!r} in it is no array of plain numbers")
