"""The one file that a check leaves: what was run where, with all that it printed and found."""

import shutil
import subprocess
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from yoloq.base.files import replace_when_whole
from yoloq.base.machine import environment
from yoloq.engines import engine_packages
from yoloq.report.tables import markdown
from yoloq.stages.gpu_check.commands import Outcome

FILE = "gpu-check.zip"
KEPT = (".json", ".jsonl", ".md", ".csv")  # of the run folders: figures, and no weights or engines
LAST = 15  # lines of a failed part that the sheet shows
GIB = 1 << 30


def gpus() -> list[str]:
    """Name, compute capability and memory of each GPU."""
    each = (torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count()))
    return [f"{p.name}, {p.major}.{p.minor}, {p.total_memory / GIB:.0f} GiB" for p in each]


def driver() -> str:
    """Version of the NVIDIA driver; empty where nothing tells it."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    query = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True)
    return (done.stdout.splitlines() or [""])[0].strip()


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    found = environment("auto", engine_packages())
    return {
        "GPUs": "; ".join(gpus()),
        "driver": driver() or "not known",
        "CUDA of torch": torch.version.cuda,
        "system": found["system"],
        "cpu": found["cpu"],
        **{name: version for name, version in found["versions"].items() if version},
    }


def sheet(facts: dict[str, Any], outcomes: Sequence[Outcome]) -> str:
    """The check in markdown: the machine, a row a part, and how failed ones ended."""
    lines = ["# GPU check", "", *(f"- {name}: {value}" for name, value in facts.items()), ""]
    head = ["Part", "Result", "Seconds", "What it shows"]
    rows = [
        [each.part.name, each.word, f"{each.seconds:.0f}", each.why_not or each.part.shows]
        for each in outcomes
    ]
    lines += [markdown([head, *rows]), ""]
    for each in outcomes:
        if each.code:
            last = each.output.splitlines()[-LAST:]
            lines += [f"## {each.part.name} ended with {each.code}", "", "```", *last, "```", ""]
    return "\n".join(lines)


def write(folder: Path, text: str, outcomes: Sequence[Outcome]) -> Path:
    """The sheet, what each part printed, and the results in the run folders, as one archive."""
    file = folder / FILE
    with (
        replace_when_whole(file) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        archive.writestr("gpu-check.md", text)
        for each in outcomes:
            if not each.why_not:
                archive.writestr(f"{each.part.name}.txt", each.output)
        for found in results(folder):
            archive.write(found, found.relative_to(folder))
    return file


def results(folder: Path) -> Iterator[Path]:
    """Files with figures in the run folders."""
    for found in sorted(folder.glob("*/*")):
        if found.suffix in KEPT:
            yield found
