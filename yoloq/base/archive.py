"""What a zip archive says of itself, looked at before anything in it is read."""

import struct
from typing import IO

MOST_DIRECTORY = 8 << 20  # bytes of the table of contents; one of 509 parts has 30,000
TAIL = (1 << 16) + 128  # bytes at the end that hold where that table is
ENDS = ((b"PK\x05\x06", "<I", 12), (b"PK\x06\x06", "<Q", 40))  # mark, size of the table, its place


def directory_size(stream: IO[bytes], size: int) -> int:
    """Bytes of the table of contents of a file of `size` bytes: what is read of it at once.

    The largest of those that it names; 0 where it names none.
    """
    stream.seek(max(0, size - TAIL))
    tail = stream.read()
    found = 0
    for mark, form, place in ENDS:
        at = tail.rfind(mark)
        if at < 0 or at + place + struct.calcsize(form) > len(tail):
            continue
        (directory,) = struct.unpack_from(form, tail, at + place)
        if form == "<I" and directory == 0xFFFFFFFF:
            continue  # the other one says it
        found = max(found, directory)
    return found
