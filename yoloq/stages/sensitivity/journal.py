"""The journal of a sweep: a line for each finished part, so that a killed sweep can go on."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yoloq.base.errors import RunError
from yoloq.base.files import write_text, writing

Line = dict[str, Any]


class Journal:
    """Lines of JSON; the first says what the sweep is of.

    Args:
        file: `sensitivity.jsonl`.
        subject: what the lines depend on, by the name that a user knows it by.
        fresh: start anew whatever is there.

    Raises:
        RunError: the file is of another subject, or no journal; names what differs.
    """

    def __init__(self, file: Path, subject: Mapping[str, Any], fresh: bool = False) -> None:
        self.file = file
        self.lines: list[Line] = []
        if file.exists() and not fresh:
            self.lines = _read(file, dict(subject))
        whole = [{"subject": dict(subject)}, *self.lines]
        write_text(file, "".join(json.dumps(line) + "\n" for line in whole))

    def append(self, line: Line) -> None:
        """Add a line; it is on the disk when this returns."""
        with writing(self.file), open(self.file, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        self.lines.append(line)

    def find(self, part: str, name: str) -> Line | None:
        """The line of a part of the sweep about a candidate."""
        found = (line for line in self.lines if (line["part"], line["name"]) == (part, name))
        return next(found, None)

    def line(self, part: str, name: str) -> Line:
        """The same where it is known to be there.

        Raises:
            KeyError: it is not.
        """
        found = self.find(part, name)
        if found is None:
            raise KeyError(f"{part} of {name}")
        return found


def _read(file: Path, subject: dict[str, Any]) -> list[Line]:
    """The whole lines after the first; one that was cut while it was written is left out."""
    text = file.read_text(encoding="utf-8", errors="replace")
    whole = text.split("\n")[:-1]
    if not whole:  # killed before the first line
        return []
    try:
        header, *lines = [json.loads(line) for line in whole]
        known = header["subject"]
        named = all(isinstance(line["part"], str) and line["name"] for line in lines)
        if not (isinstance(known, dict) and named):
            raise ValueError("a line has no part or name")
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{file}: is no journal of a sweep ({error}); remove it") from None
    other = [name for name in subject if known.get(name) != json.loads(json.dumps(subject[name]))]
    if other:
        raise RunError(
            f"{file}: is a journal of other {' and other '.join(other)}; "
            "--force starts anew, NAME= keeps both"
        )
    return lines
