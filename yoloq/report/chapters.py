"""A report as data: what stands in it, whether it is shown as a page, markdown, csv or json."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from yoloq.report.comparison import comparison, together
from yoloq.report.notes import LEGEND
from yoloq.report.recommendation import Verdict, verdict
from yoloq.report.remarks import remarks as of
from yoloq.report.run_folder import RunFolder
from yoloq.report.section import Missing, Part, Section
from yoloq.report.sections import SECTIONS
from yoloq.report.sections.accuracy_latency import of_runs
from yoloq.report.sections.how_measured import how_measured
from yoloq.report.sections.to_repeat import to_repeat
from yoloq.report.tables import line, markdown, rendered

SCHEMA = 1
SHOWN = 24  # rows of a section's table in markdown


@dataclass(frozen=True)
class Chapter:
    """A section under its key and title."""

    name: str
    title: str
    section: Section


@dataclass(frozen=True)
class Document:
    """A report of one or several runs.

    Attributes:
        names: of the runs.
        facts: what was measured, in short.
        verdicts: one a run.
        lines: rows of the common table (`tables.line`).
        chapters: the sections that there is something for.
        missing: (title, why and with which command) of the others.
        remarks: on rows of the table: int8 that is not faster, and the command that mends it.
    """

    names: tuple[str, ...]
    facts: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    lines: tuple[dict[str, Any], ...]
    chapters: tuple[Chapter, ...]
    missing: tuple[tuple[str, Missing], ...]
    remarks: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The runs' names."""
        return " against ".join(self.names)

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "schema": SCHEMA,
            "runs": self.names,
            "facts": self.facts,
            "verdicts": [asdict(each) for each in self.verdicts],
            "rows": self.lines,
            "remarks": self.remarks,
            "sections": {
                each.name: {"title": each.title, "words": each.section.words}
                | {"data": each.section.data}
                for each in self.chapters
            },
            "not_run": [{"title": title} | asdict(each) for title, each in self.missing],
        }

    def to_markdown(self) -> str:
        """As text for a wiki or a pull request."""
        parts = [f"# Report: {self.title}", "", *self.facts, ""]
        for name, each in zip(self.names, self.verdicts, strict=True):
            lead = f"{name}: " if len(self.names) > 1 else ""
            parts += [f"**{lead}{each.words}**", "", *(f"{x}\n" for x in each.reasons)]
        parts += [markdown(rendered(self.lines)), "", LEGEND, ""]
        parts += [f"- {remark}\n" for remark in self.remarks]
        for chapter in self.chapters:
            parts += [f"## {chapter.title}", "", *_section(chapter.section)]
        if self.missing:
            parts += ["## Not run", ""]
            parts += [f"- {title}: {each.reason}: `{each.command}`" for title, each in self.missing]
            parts.append("")
        return "\n".join(parts)


def _section(section: Section) -> list[str]:
    parts = [f"- {words}" for words in section.words]
    if section.table:
        parts += ["", markdown(section.table[: SHOWN + 1])]
        if len(section.table) > SHOWN + 1:
            parts += ["", f"{len(section.table) - SHOWN - 1} more in report.json"]
    if section.lines:
        parts += ["", "```", *section.lines, "```"]
    return [*parts, ""]


def document(runs: Sequence[RunFolder]) -> Document:
    """Everything that is known of a run, or what several differ by."""
    parts = SECTIONS if len(runs) == 1 else _of_several(runs)
    chapters, missing = [], []
    for part in parts:
        made = part.make(runs[0])
        if isinstance(made, Missing):
            missing.append((part.title, made))
        else:
            chapters.append(Chapter(part.name, part.title, made))
    lines = [line(run.name, row, result) for run in runs for row, result in run.pairs]
    return Document(
        names=tuple(run.name for run in runs),
        facts=tuple(map(_facts, runs)),
        verdicts=tuple(map(verdict, runs)),
        lines=tuple(lines),
        chapters=tuple(chapters),
        missing=tuple(missing),
        remarks=tuple(x for run in runs for result in run.results for x in of(run.folder, result)),
    )


def _of_several(runs: Sequence[RunFolder]) -> tuple[Part, ...]:
    """What is said of several runs; the pictures of each are in its own report."""
    every = list(runs)
    parts = [
        Part("comparison", f"Against {runs[0].name}", lambda _: comparison(every)),
        Part("latency", "Accuracy against latency", lambda _: of_runs(*together(every))),
    ]
    for index, run in enumerate(every):
        told = Part(
            f"environment-{index}", f"How {run.name} was measured", _bound(how_measured, run)
        )
        parts += [told, Part(f"repeat-{index}", f"To repeat {run.name}", _bound(to_repeat, run))]
    return tuple(parts)


def _bound(make: Any, run: RunFolder) -> Any:
    return lambda _: make(run)


def _facts(run: RunFolder) -> str:
    """The run's model, data and machine."""
    first = run.results[0]
    weights, data = (_file(part.get("path", "")) for part in (first.weights, first.data))
    machine = first.environment
    where = machine.get("gpu") or machine.get("cpu", "")
    return (
        f"{run.name}: {weights or 'a checkpoint'} on {first.data['images']} images of "
        f"{data or 'a data set'} at {first.data['imgsz']} px; {where}"
    )


def _file(path: str) -> str:
    return path.replace("\\", "/").rsplit("/", 1)[-1]
