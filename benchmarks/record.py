"""What a benchmark found: figures with their targets, tables, and how both were taken."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
RESULTS = FOLDER / "results"


@dataclass(frozen=True)
class Figure:
    """One measured number; it reaches its target where it lies within `low` .. `high`.

    `form` prints the value and the target; None on both sides means that no target applies, and
    `note` says why or adds how the number was taken.
    """

    name: str
    value: float
    form: str = "{:.3f}"
    low: float | None = None
    high: float | None = None
    note: str = ""

    @property
    def target(self) -> str:
        """The target as text; empty where there is none."""
        low, high = (None if x is None else self.form.format(x) for x in (self.low, self.high))
        if low and high:
            return f"{low} to {high}"
        return f">= {low}" if low else f"<= {high}" if high else ""

    @property
    def passed(self) -> bool | None:
        """Whether the target is reached; None where there is none."""
        if self.low is None and self.high is None:
            return None
        above = self.low is None or self.value >= self.low
        return above and (self.high is None or self.value <= self.high)

    def to_json(self) -> dict[str, Any]:
        """Plain data, with target and verdict spelled out."""
        return asdict(self) | {"target": self.target, "passed": self.passed}


@dataclass(frozen=True)
class Column:
    """Heading and format of a table's column; a format may index a list, as `{0[1]:.2f}` does."""

    title: str
    form: str = "{}"


INTERVAL = "{0[0]:+.2f} to {0[1]:+.2f}"
SPREAD = "{0[0]:.2f} to {0[1]:.2f}"


@dataclass(frozen=True)
class Table:
    """Rows of unrounded values; None is printed as a dash."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True)
class Found:
    """Everything that one part measured; `how` says how in sentences."""

    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    how: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "how": list(self.how),
            "figures": [figure.to_json() for figure in self.figures],
            "tables": [asdict(table) for table in self.tables],
        }


def read(file: Path) -> dict[str, Any]:
    """A part's result as it was written."""
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content


def describe(figure: dict[str, Any]) -> str:
    """One line for the terminal."""
    verdict = {True: "pass", False: "MISS", None: ""}[figure["passed"]]
    value = figure["form"].format(figure["value"])
    target = f" (target {figure['target']})" if figure["target"] else ""
    return f"{verdict:4} {figure['name']}: {value}{target} {figure['note']}".rstrip()
