"""How a command ends: its table, the command that comes next, or one object for a program."""

import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from yoloq.base.config import AUTO, RunConfig, StageConfig
from yoloq.base.result import StageResult
from yoloq.base.say import put, say, voice
from yoloq.report.remarks import remarks
from yoloq.report.repeat import make_command
from yoloq.report.tables import line, rendered, show


def conclude(module: ModuleType, config: Any, found: Any) -> None:
    """Show what a stage found, as a user or a program wants it.

    A stage that has rows gets their table here; others have printed their own. Where a module has
    `next_step(config, found)`, the command that it gives is named. Of the processes that `torchrun`
    starts the first one speaks.

    Args:
        module: of the stage that was asked for; those that it ran first end without a word.
        found: what its `run` returned.
    """
    if os.environ.get("RANK", "0") != "0":
        return
    if isinstance(found, StageResult) and found.rows and not voice().json:
        show_rows(config.folder, found)
    if voice().json:
        print(json.dumps(as_object(module, found), default=str), flush=True)
    if hasattr(module, "next_step"):
        say(f"next: {module.next_step(config, found)}")


def show_rows(folder: Path, result: StageResult) -> None:
    """Print a result's table, and what is to be said of its rows."""
    show(rendered([line(folder.name, row, result) for row in result.rows]))
    for text in remarks(folder, result):
        put(text)


def as_object(module: ModuleType, found: Any) -> dict[str, Any]:
    """What a stage found as plain data; of one that has no result file, its rows."""
    if is_dataclass(found) and not isinstance(found, type):
        return asdict(found)
    return {"stage": module.__name__.split(".")[-2], "rows": found}


def command(config: RunConfig, target: str, arguments: str = "", engine: str = AUTO) -> str:
    """A make command on the same run, with the options that were not left at their defaults.

    Args:
        target: of make.
        arguments: what goes into ARGS besides them.
        engine: that it is for.
    """
    defaults = asdict(StageConfig()) | {"engine": AUTO}
    given = {name: value for name, value in asdict(config).items() if name in defaults and value}
    return make_command(target, given | {"engine": engine}, defaults, arguments)


def on_run(config: RunConfig, target: str, source: str = "", arguments: str = "") -> str:
    """A make command that reads all it needs from the run folder.

    Args:
        source: what to predict on; empty: the target needs none.
        arguments: what goes into ARGS.
    """
    where = {"project": config.project, "name": config.folder.name}
    words = make_command(target, where, asdict(StageConfig()), arguments)
    return f"{words} SOURCE={shlex.quote(source)}" if source else words


def same_run(config: RunConfig, saved: Mapping[str, Any]) -> StageConfig:
    """The options of a stage of a run, for commands on it; in the run folder as it is now.

    Args:
        saved: `config` of the stage's result.
    """
    known = {field.name for field in fields(StageConfig)}
    options = {name: value for name, value in saved.items() if name in known}
    here = {"project": config.project, "name": config.folder.name, "force": False}
    return StageConfig(**options | here)
