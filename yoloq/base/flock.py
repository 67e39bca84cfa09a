"""Locks of open files and folders, which the system takes from a process that ends."""

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def lock(descriptor: int) -> bool:
    """Lock what is open; False where there are no locks: on Windows and some file systems.

    Raises:
        BlockingIOError: another process holds it.
    """
    try:
        if fcntl:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return fcntl is not None
