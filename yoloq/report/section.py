"""What a part of the report consists of, whatever it is shown as."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from yoloq.report.run_folder import RunFolder

Table = tuple[tuple[str, ...], ...]  # header and cells


@dataclass(frozen=True)
class Figure:
    """A drawing, and what stands under it."""

    drawing: str
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the report.

    Attributes:
        words: sentences about it.
        figures: drawings as SVG, for the page alone.
        table: the same figures as text: header and cells.
        data: the same as plain data, for `report.json`.
        lines: commands or other text that is shown as it is typed.
        table_first: the table says most, and stands open above the drawings.
    """

    words: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    table: Table = ()
    data: Any = None
    lines: tuple[str, ...] = ()
    table_first: bool = False


@dataclass(frozen=True)
class Missing:
    """A part that a run has nothing for: why, and the command that makes it."""

    reason: str
    command: str


@dataclass(frozen=True)
class Part:
    """A row of `SECTIONS`: its key, its title, and what makes it of a run."""

    name: str
    title: str
    make: Callable[[RunFolder], Section | Missing]
