"""Files that appear whole or not at all, and their hashes."""

import contextlib
import hashlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replace_when_whole(file: Path) -> Iterator[Path]:
    """Give a temporary path beside `file` and move it there when the block ends without error."""
    file.parent.mkdir(parents=True, exist_ok=True)
    # not mkstemp: the file should get the permissions that any new file gets
    temporary = file.with_name(f".{file.stem}-{uuid.uuid4().hex}{file.suffix}")
    try:
        yield temporary
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(file: Path, text: str) -> None:
    """Write a text file whole."""
    with replace_when_whole(file) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sha256(file: Path) -> str:
    """Hex digest of a file's bytes."""
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_text(text: str) -> str:
    """Hex digest of a text."""
    return hashlib.sha256(text.encode()).hexdigest()
