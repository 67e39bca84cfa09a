"""Temporary folders where several commands work at once: those that a killed one left go."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from yoloq.base.files import is_left, temporary_folder
from yoloq.base.flock import lock


@contextlib.contextmanager
def owned_folder(folder: Path, name: str, began: float) -> Iterator[Path]:
    """Give an empty folder inside `folder` that goes with the block; and remove those left there.

    It is locked as long as its maker lives, so that others know it from one that was left.

    Args:
        began: when this command did, in seconds since 1970. What is younger stays: its maker may
            not have locked it yet.

    Raises:
        RunError: it cannot be made; says why.
    """
    for path in folder.glob(".*"):
        if path.is_dir() and is_left(path, before=began):
            with _locked(path) as free:
                if free:
                    shutil.rmtree(path, ignore_errors=True)
    with temporary_folder(folder, name) as made, _locked(made):
        yield made


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Hold a folder's lock; False where another process does, or there are no locks."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # it is gone, or is Windows', where no folder can be opened
        yield False
        return
    try:
        yield _is_free(descriptor)
    finally:
        os.close(descriptor)


def _is_free(descriptor: int) -> bool:
    try:
        return lock(descriptor)
    except BlockingIOError:
        return False
