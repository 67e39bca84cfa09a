"""The journal of a sweep: a line for each finished part, so that a killed sweep can go on."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from yoloq.base.errors import RunError
from yoloq.base.files import write_text, writing


@dataclass(frozen=True)
class Screened:
    """The first pass on a candidate: how like its raw maps are to those of the FP32 network."""

    part: ClassVar[str] = "screen"

    name: str
    snr: float
    cosine: float


@dataclass(frozen=True)
class Scored:
    """The full score of a candidate or of the base.

    Each accuracy is the figure itself, then those of the resamples (`scores.Score`).
    """

    part: ClassVar[str] = "score"

    name: str
    snr: float
    cosine: float
    fidelity: tuple[float, ...]
    map50_95: tuple[float, ...]
    map50: tuple[float, ...]


@dataclass(frozen=True)
class Timed:
    """Milliseconds of each convolution on an engine, which gives the name, in int8 and in float.

    `taken` says on which machine and how.
    """

    part: ClassVar[str] = "times"

    name: str
    costs: Mapping[str, tuple[float, float]]
    taken: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Tried:
    """Accuracy with a set of candidates in float; their names, joined, are the name."""

    part: ClassVar[str] = "set"

    name: str
    fidelity: float
    map50_95: float


Line = Screened | Scored | Timed | Tried
L = TypeVar("L", bound=Line)
PARTS: dict[str, Any] = {kind.part: kind for kind in (Screened, Scored, Timed, Tried)}


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
        """The newest line of a part of the sweep about a candidate."""
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


def _to_json(line: Line) -> dict[str, Any]:
    return {"part": line.part, **asdict(line)}


def _from_json(data: dict[str, Any]) -> Line:
    """What `_to_json` gave, after JSON made lists of its tuples."""
    kind = PARTS[data.pop("part")]
    if not (isinstance(data["name"], str) and data["name"]):
        raise ValueError("a line has no name")
    if kind is Timed:
        data["costs"] = {name: tuple(pair) for name, pair in data["costs"].items()}
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in data.items()})


def _read(file: Path, subject: dict[str, Any]) -> list[Line]:
    """The whole lines after the first; one that was cut while it was written is left out."""
    text = file.read_text(encoding="utf-8", errors="replace")
    whole = text.split("\n")[:-1]
    if not whole:  # killed before the first line
        return []
    try:
        header, *lines = [json.loads(line) for line in whole]
        known = header["subject"]
        if not isinstance(known, dict):
            raise ValueError("the first line is no subject")
        found = [_from_json(line) for line in lines]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{file}: is no journal of a sweep ({error}); remove it") from None
    other = [name for name in subject if known.get(name) != json.loads(json.dumps(subject[name]))]
    if other:
        raise RunError(
            f"{file}: is a journal of other {' and other '.join(other)}; "
            "--force starts anew, NAME= keeps both"
        )
    return found
