"""Files that appear whole or not at all, and their hashes."""

import contextlib
import functools
import hashlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from yoloq.base.errors import RunError
from yoloq.base.machine import affinity

LFS = b"version https://git-lfs"  # how Git LFS's stand-in for a file begins
LFS_ADVICE = "is a Git LFS pointer and not the file itself; run `git lfs pull`"
SETTLED = 2 * 10**9  # nanoseconds; file systems count in steps of up to 2 s
FULL = 1 << 20  # bytes; a disk with less than this left is taken as full
IOSTREAM = "iostream error"  # all that C++ says of a write that failed; OpenVINO passes it on
HIDDEN = re.compile(r"\..+-[0-9a-f]{32}(\..*)?")  # names that `_hidden` gives, with a suffix


@contextlib.contextmanager
def replace_when_whole(file: Path) -> Iterator[Path]:
    """Give an empty temporary file beside `file`; it takes that name when the block ends well.

    Raises:
        RunError: it cannot be written; says why.
    """
    # not mkstemp: the file should get the permissions that any new file gets
    temporary = file.with_name(f"{_hidden(file.stem)}{file.suffix}")
    try:
        with writing(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            temporary.touch()
            yield temporary
            os.replace(temporary, file)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextlib.contextmanager
def temporary_folder(folder: Path, name: str) -> Iterator[Path]:
    """Give an empty folder inside `folder` that goes with the block, whatever is in it by then.

    Raises:
        RunError: it cannot be made; says why.
    """
    made = folder / _hidden(name)
    try:
        with writing(made):
            made.mkdir(parents=True)
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _hidden(name: str) -> str:
    """A new name for what is there for a time only."""
    return f".{name}-{uuid.uuid4().hex}"


def remove_left(folder: Path, before: float) -> None:
    """Remove the temporary files and folders in a folder whose makers were killed.

    Args:
        before: in seconds since 1970; what was written later is another command's.
    """
    for path in folder.glob(".*"):
        if is_left(path, before):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def is_left(path: Path, before: float) -> bool:
    """Whether something has a temporary name, and was written before a time."""
    try:
        return bool(HIDDEN.fullmatch(path.name)) and path.lstat().st_mtime < before
    except FileNotFoundError:  # its maker is done with it
        return False


@contextlib.contextmanager
def writing(file: Path) -> Iterator[None]:
    """Say which file could not be written, and why.

    Raises:
        RunError: for any OSError, and where torch or OpenVINO fail over one: they do not say so.
    """
    try:
        yield
    except OSError as error:
        raise _unwritable(file, error.strerror or str(error)) from None
    except RuntimeError as error:
        if reason := _write_error(file, error):
            raise _unwritable(file, reason) from None
        raise


def _write_error(file: Path, error: RuntimeError) -> str:
    """Why a library could not write, where it tells no more than that it failed; else empty."""
    under = error.__context__  # torch's: what the stream that it was given has raised
    if isinstance(under, OSError) and under.strerror:
        return under.strerror
    with contextlib.suppress(OSError):
        if shutil.disk_usage(file.parent).free < FULL:
            return "the disk is full"
    return "the disk or a quota may be full" if IOSTREAM in str(error) else ""


def _unwritable(file: Path, reason: str) -> RunError:
    return RunError(f"{file}: cannot be written ({reason}); make room or choose another --project")


def check_writable(folder: Path) -> None:
    """Find out before hours of work that their result cannot be written.

    Raises:
        RunError: the folder, or the first of its parents that exists, takes no new files.
    """
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        raise RunError(f"{folder}: cannot be written; choose another --project")


def write_text(file: Path, text: str) -> None:
    """Write a text file whole."""
    with replace_when_whole(file) as temporary:
        temporary.write_text(text, encoding="utf-8")


def is_lfs_pointer(file: Path) -> bool:
    """Whether a file is the stand-in that Git LFS checks out where the file was not fetched."""
    try:
        with open(file, "rb") as stream:
            return stream.read(len(LFS)) == LFS
    except OSError:
        return False


def sha256(file: Path) -> str:
    """Hex digest of a file's bytes."""
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def hashes(files: Iterable[Path]) -> Iterator[str]:
    """Hex digest of each file, empty for one that is not there; read on all cores, and once.

    A file is read again where its size or times changed, that of its inode included, which no
    program sets back; and where that time is so new that the next change might not show in it.
    """
    with ThreadPoolExecutor(len(affinity())) as pool:
        yield from pool.map(_hash_as_it_stands, files)


def _hash_as_it_stands(file: Path) -> str:
    if not file.is_file():
        return ""
    known = file.stat()
    if abs(time.time_ns() - known.st_ctime_ns) < SETTLED:
        return sha256(file)
    return _hash_at(file, known.st_size, known.st_mtime_ns, known.st_ctime_ns)


@functools.cache
def _hash_at(file: Path, size: int, written: int, changed: int) -> str:
    return sha256(file)


def sha256_text(text: str) -> str:
    """Hex digest of a text."""
    return hashlib.sha256(text.encode()).hexdigest()
