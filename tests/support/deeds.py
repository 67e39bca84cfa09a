"""What a process does to the world while a file is read, as Python's audit events tell it."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

ACTS = (  # events, or the beginnings of them, that reading a file never causes
    *("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.startfile", "os.kill"),
    *("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate"),
    *("os.chmod", "os.chown", "os.putenv", "os.unsetenv", "subprocess.", "shutil.", "socket."),
    *("ctypes.dlopen", "ftplib.", "urllib.", "smtplib.", "webbrowser.", "pty."),
    *("tempfile.", "pickle.find_class"),  # the last is the machine in C, which looks up any name
)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

_seen: list[str] = []
_watching = False


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watching:
        return
    flags = arguments[2] if event == "open" and isinstance(arguments[2], int) else 0
    if flags & WRITING or event.startswith(ACTS):
        _seen.append(f"{event} {arguments!r}"[:200])


@contextlib.contextmanager
def deeds() -> Iterator[list[str]]:
    """Give the list of what is done inside the block. A hook stays: Python removes none."""
    global _watching
    if not _seen and not getattr(sys, "_yoloq_deeds", False):
        sys._yoloq_deeds = True  # type: ignore[attr-defined]
        sys.addaudithook(_hook)
    _seen.clear()
    _watching = True
    try:
        yield _seen
    finally:
        _watching = False
