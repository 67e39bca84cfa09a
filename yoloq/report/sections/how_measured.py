"""The machine and the versions that the figures are of, and how each stage took them."""

from typing import Any

from yoloq.report.notes import note, over_floor
from yoloq.report.run_folder import RunFolder
from yoloq.report.section import Section


def how_measured(run: RunFolder) -> Section:
    """A line a stage, and the table of machine, packages, weights and data."""
    words = [note(run.name, result) for result in run.results]
    words += [text for result in run.results if (text := over_floor(run.name, result))]
    every = {result.stage: _facts(result.environment) for result in run.results}
    names = list(dict.fromkeys(name for facts in every.values() for name in facts))
    first = run.results[0]
    rows = [
        ("weights", f"{first.weights.get('path', '-')} ({_short(first.weights)})"),
        ("data", f"{first.data.get('path', '-')} ({_short(first.data)})"),
        ("images", f"{first.data['images']} at {first.data['imgsz']} px"),
    ]
    for name in names:
        values = {stage: facts.get(name, "-") for stage, facts in every.items()}
        same = len(set(values.values())) == 1
        shown = (
            next(iter(values.values()))
            if same
            else "; ".join(f"{s}: {v}" for s, v in values.items())
        )
        rows.append((name, shown))
    data = {"notes": words, "environment": {r.stage: r.environment for r in run.results}}
    return Section(tuple(words), table=(("", "Value"), *rows), data=data)


def _short(subject: dict[str, Any]) -> str:
    return f"sha256 {subject.get('sha256', '-')[:12]}"


def _facts(environment: dict[str, Any]) -> dict[str, str]:
    facts = {k: v for k, v in environment.items() if k != "versions"}
    facts |= {k: v for k, v in environment.get("versions", {}).items() if v is not None}
    return {name: _told(value) for name, value in facts.items()}


def _told(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    return "none" if value is None else str(value)
