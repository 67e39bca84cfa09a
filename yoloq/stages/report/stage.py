"""The report of a run: verdict, table and pictures, as a page, markdown, csv and json."""

import csv
import io
import json
import shutil
import webbrowser
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from yoloq.base.errors import RunError
from yoloq.base.files import write_text
from yoloq.base.say import put, say
from yoloq.report.chapters import Document, document
from yoloq.report.page import page
from yoloq.report.run_folder import open_run
from yoloq.report.section import Table
from yoloq.report.tables import comma_separated, rendered, show
from yoloq.stages.baseline import BaselineConfig
from yoloq.stages.diagnose import DiagnoseConfig
from yoloq.stages.end import on_run
from yoloq.stages.engine import EngineConfig
from yoloq.stages.ptq import PtqConfig
from yoloq.stages.qat import QatConfig
from yoloq.stages.report import ReportConfig
from yoloq.stages.search import SearchConfig
from yoloq.stages.sensitivity import SensitivityConfig
from yoloq.stages.swap import SwapConfig

OPTIONS = {
    "baseline": BaselineConfig,
    "ptq": PtqConfig,
    "qat": QatConfig,
    "engine": EngineConfig,
    "sensitivity": SensitivityConfig,
    "search": SearchConfig,
    "diagnose": DiagnoseConfig,
    "swap": SwapConfig,
}
DEFAULTS = {stage: asdict(options()) for stage, options in OPTIONS.items()}
ONE, SEVERAL = "report", "comparison"  # names of the files


def run(config: ReportConfig) -> list[dict[str, Any]]:
    """Print the table and write `report.html`, `.md`, `.csv` and `.json` into the run folder.

    Several runs are compared in `comparison.*`, in the folder of the first. The tables behind the
    pictures are csv files in a folder of that name.

    Raises:
        RunError: a folder holds no results, or two have one name.
    """
    folders = chosen_folders(config)
    found = document([open_run(folder, DEFAULTS) for folder in folders])
    name = ONE if len(folders) == 1 else SEVERAL
    file = folders[0] / f"{name}.html"
    write(found, folders[0], name)
    show(rendered(found.lines))
    for remark in found.remarks:
        put(remark)
    for run_name, verdict in zip(found.names, found.verdicts, strict=True):
        say(f"{run_name}: {verdict.words}" if len(found.names) > 1 else verdict.words)
    say(f"written: {file}, and the same as {name}.md, {name}.csv, {name}.json")
    if config.open and not webbrowser.open(file.resolve().as_uri()):
        say(f"no browser was found: open {file} in one")
    return list(found.lines)


def next_step(config: ReportConfig, found: Any) -> str:
    """Look at what the engines find."""
    return on_run(config, "predict", "photo.jpg")


def chosen_folders(config: ReportConfig) -> list[Path]:
    """Folders of the runs that were named; a name alone is one in `--project`.

    Raises:
        RunError: two runs have one name: the table could not tell them apart.
    """
    folders = [_folder(config, name) for name in config.runs] or [config.folder]
    names = [folder.name for folder in folders]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise RunError(f"--runs: two runs are called {twice}; rename one of the folders")
    return folders


def _folder(config: ReportConfig, name: str) -> Path:
    inside = Path(config.project) / name
    return inside if inside.is_dir() and not Path(name).is_dir() else Path(name)


def write(found: Document, folder: Path, name: str) -> None:
    """The four files, and a csv a section; those of an earlier report go."""
    write_text(folder / f"{name}.md", found.to_markdown())
    write_text(folder / f"{name}.html", page(found))
    write_text(folder / f"{name}.csv", comma_separated(found.lines))
    write_text(folder / f"{name}.json", json.dumps(found.to_json(), indent=1) + "\n")
    shutil.rmtree(folder / name, ignore_errors=True)
    for chapter in found.chapters:
        if chapter.section.table:
            text = _comma_separated(chapter.section.table)
            write_text(folder / name / f"{chapter.name}.csv", text)


def _comma_separated(table: Table | Sequence[Sequence[str]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerows(table)
    return buffer.getvalue()
