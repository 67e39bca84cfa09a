"""What stands below a table: int8 rows that are not faster, what costs them, and what mends it."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from yoloq.base.config import AUTO, StageConfig
from yoloq.base.result import StageResult
from yoloq.report.repeat import make_command


def remarks(folder: Path, result: StageResult) -> list[str]:
    """A line for each int8 row of an engine that is not faster than its fastest float type.

    Args:
        folder: of the run, as it lies now: the commands are for that.
    """
    return [remark(folder, result, found) for found in result.notes.get("slow", {}).values()]


def remark(folder: Path, result: StageResult, found: Mapping[str, Any]) -> str:
    """That line for one row, of what `notes` say of it."""
    defaults = asdict(StageConfig()) | {"engine": AUTO}
    config = {name: value for name, value in result.config.items() if name in defaults}
    config |= {"project": str(folder.parent), "name": folder.name, "engine": found["engine"]}
    text = (
        f"{found['title']} ({found['engine']}) takes {found['ms']:.2f} ms, {found['against']} "
        f"{found['against_ms']:.2f}: int8 is not faster here"
    )
    search = f"what is fastest: {make_command('search', config, defaults)}"
    if not found["layers"]:
        return f"{text}; {search}"
    named = ", ".join(f"{name} ({ms:+.3f} ms)" for name, ms in found["layers"].items())
    text += f"; it loses most at {named}; to keep those in float: "
    names = " ".join(found["layers"])
    if found["own_ranges"]:  # an engine that calibrates itself knows of no policy
        return text + make_command("engine", config, defaults, f"--fp16-layers {names}")
    return f"{text}{make_command('ptq', config, defaults, f'--keep-float {names}')}; {search}"
