"""One process at a time works in a run folder; those that only read it are not kept out."""

import contextlib
import os
import platform
import time
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

from yoloq.base.errors import RunError
from yoloq.base.files import check_writable, remove_left, writing
from yoloq.base.flock import lock

LOCK = ".lock"  # in the run folder; says who holds it
TRIES = 10  # a file is opened so often where others remove it in the same moment


@contextlib.contextmanager
def held(folder: Path, work: str) -> Iterator[None]:
    """Keep other processes out of a run folder while the block runs.

    The system takes the lock from a process that ends, however it ends: what a killed one leaves
    is a file that holds nothing, and temporary files, which go first. A folder that is still empty
    goes again. There is no lock on Windows, nor where a file system has none.

    Args:
        work: what is done in it, for the one who is kept out.

    Raises:
        RunError: another process works in it; says which. Or it cannot be written.
    """
    check_writable(folder)
    began = time.time()
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    file = folder / LOCK
    try:
        with _opened(file) as stream:
            try:
                with writing(file):
                    stream.truncate(0)
                    stream.write(f"process {os.getpid()} on {platform.node()} ({work})".encode())
                remove_left(folder, before=began)
                yield
            finally:
                if _is_at(stream, file):
                    file.unlink()  # while it is held: who has opened it meanwhile sees that
    finally:
        for path in missing:
            with contextlib.suppress(OSError):
                path.rmdir()


def _opened(file: Path) -> FileIO:
    """The lock's file, opened and locked."""
    with writing(file):
        for _ in range(TRIES):
            file.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                stream = FileIO(file, "a+")
                _lock(stream, file.parent)
                if _is_at(stream, file):
                    return stream
                stream.close()
    raise RunError(f"{file.parent}: others start and end in it all the time; try again")


def _lock(stream: FileIO, folder: Path) -> None:
    try:
        lock(stream.fileno())
    except BlockingIOError:
        stream.seek(0)
        holder = stream.read().decode(errors="replace") or "another process"
        stream.close()
        raise RunError(
            f"{folder}: {holder} works in it; wait for its end or choose another --name"
        ) from None


def _is_at(stream: FileIO, file: Path) -> bool:
    """Whether the open file is the one of that name: it may have been removed since."""
    try:
        return os.path.samestat(os.fstat(stream.fileno()), file.stat())
    except OSError:
        return False
