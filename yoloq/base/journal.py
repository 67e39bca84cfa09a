"""A journal of long work: a line for each finished part, so that what was killed can go on."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from yoloq.base.errors import RunError
from yoloq.base.files import write_text, writing


class Line(Protocol):
    """A frozen dataclass; `part` says which part of the work, `name` what it was done on."""

    part: ClassVar[str]

    @property
    def name(self) -> str: ...


L = TypeVar("L", bound=Line)


class Journal:
    """Lines of JSON; the first says what the work is of.

    Args:
        file: where it is, `sensitivity.jsonl` for example.
        subject: what the lines depend on, by the name that a user knows it by.
        kinds: of its lines; their lists are read back as tuples.
        fresh: start anew whatever is there.

    Raises:
        RunError: the file is of another subject, or no journal; names what differs.
    """

    def __init__(
        self, file: Path, subject: Mapping[str, Any], kinds: Sequence[Any], fresh: bool = False
    ) -> None:
        self.file = file
        self.kinds = {kind.part: kind for kind in kinds}
        self.lines: list[Any] = []
        if file.exists() and not fresh:
            self.lines = self._read(dict(subject))
        whole = [{"subject": dict(subject)}, *map(_to_json, self.lines)]
        write_text(file, "".join(json.dumps(line) + "\n" for line in whole))

    def append(self, line: Line) -> None:
        """Add a line; it is on the disk when this returns."""
        text = json.dumps(_to_json(line)) + "\n"
        with writing(self.file), open(self.file, "a", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        self.lines.append(line)

    def find(self, part: type[L], name: str) -> L | None:
        """The newest line of a part of the work about one thing."""
        of_part = (line for line in reversed(self.lines) if isinstance(line, part))
        return next((line for line in of_part if line.name == name), None)

    def line(self, part: type[L], name: str) -> L:
        """The same where it is known to be there.

        Raises:
            KeyError: it is not.
        """
        found = self.find(part, name)
        if found is None:
            raise KeyError(f"{part.part} of {name}")
        return found

    def _from_json(self, data: dict[str, Any]) -> Any:
        """What `_to_json` gave, after JSON made lists of its tuples."""
        kind = self.kinds[data.pop("part")]
        if not (isinstance(data["name"], str) and data["name"]):
            raise ValueError("a line has no name")
        return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in data.items()})

    def _read(self, subject: dict[str, Any]) -> list[Any]:
        """The whole lines after the first; one that was cut while it was written is left out."""
        text = self.file.read_text(encoding="utf-8", errors="replace")
        whole = text.split("\n")[:-1]
        if not whole:  # killed before the first line
            return []
        try:
            header, *lines = [json.loads(line) for line in whole]
            known = header["subject"]
            if not isinstance(known, dict):
                raise ValueError("the first line is no subject")
            found = [self._from_json(line) for line in lines]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise RunError(
                f"{self.file}: is no journal of this stage ({error}); remove it"
            ) from None
        own = json.loads(json.dumps(subject))
        other = [name for name in subject if known.get(name) != own[name]]
        if other:
            raise RunError(
                f"{self.file}: is a journal of other {' and other '.join(other)}; "
                "--force starts anew, NAME= keeps both"
            )
        return found


def _to_json(line: Any) -> dict[str, Any]:
    return {"part": line.part, **asdict(line)}
