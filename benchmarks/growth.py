"""Cost growth: time and peak memory of every stage against images and against model size."""

import math
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from record import Column, Figure, Found, Table
from subject import WORK, Subject, main
from work import multiplications

from yoloq.base.files import write_text
from yoloq.base.machine import affinity
from yoloq.base.own_files import ROOT
from yoloq.data.shapes import CLASSES
from yoloq.data.synthetic import ensure
from yoloq.models.load import fused, new_model, save_model
from yoloq.models.yolov5.layout import v6_spec

IMGSZ = 160
SIZES = (64, 256, 1024)
MODELS, MODELS_LIMITED = ("n", "s", "m"), ("n", "s")
MOST = 1.1  # an exponent; 1 grows as the work does, and a shared machine is not exact to 10%
RARE = -5.0  # added to the objectness of random weights: as few candidates as of a trained model
ALONE = """
import resource, subprocess, sys, time
began = time.perf_counter()
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
seconds = time.perf_counter() - began
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
"""  # a process between: a child's peak counts from that of its parent, and this one is large
COLUMNS = (
    *(Column("Stage"), Column("Case"), Column("Work", "{:.1f}"), Column("Seconds", "{:.1f}")),
    *(Column("CPU s", "{:.1f}"), Column("Peak MB", "{:.0f}")),
    *(Column("Time's exponent", "{:.2f}"), Column("Memory's exponent", "{:.2f}")),
)
HOW = (
    "A process a stage on {threads} threads, {imgsz} px, drawn images, as many in train as in val. "
    "Peak is the largest resident memory of the process. Work counts images, or multiplications "
    "of the network on {least} images. An exponent is log(cost / cost before) / log(work / work "
    "before): 1 is as fast as the work, start-up included; of time, CPU seconds count. Images: the "
    "built-in weights. Models: random weights. Sensitivity scores 3 blocks on all images; diagnosis"
    " takes at most 1,000."
)


@dataclass(frozen=True)
class Cost:
    """What a process took: wall-clock and CPU seconds, peak memory in MB."""

    seconds: float
    cpu: float
    peak: float


@dataclass(frozen=True)
class Case:
    """A checkpoint on so many images; `work` is relative to the other cases of its series."""

    name: str
    weights: Path
    images: int
    work: float


def measure(subject: Subject) -> Found:
    """Whether a stage's time or memory grows faster than its work, over images and over models."""
    limit = subject.limit
    sizes, models = ((limit, 4 * limit), MODELS_LIMITED) if limit else (SIZES, MODELS)
    series = {
        "images": [Case(f"{n} images", subject.weights, n, n) for n in sizes],
        "models": [random_model(letter, sizes[0]) for letter in models],
    }
    figures, tables = [], []
    for name, cases in series.items():
        costs = [run_stages(case) for case in cases]
        rows = [row for stage in costs[0] for row in rows_of(stage, cases, costs)]
        tables.append(Table(f"Growth with {name}", COLUMNS, tuple(rows)))
        for title, column in (("time", -2), ("memory", -1)):
            grown = [(row[column], row[0]) for row in rows if row[column] is not None]
            worst, stage = max(grown)
            text = f"Fastest growth of {title} with {name}, exponent"
            figures.append(Figure(text, worst, "{:.2f}", high=MOST, note=stage))
    how = HOW.format(threads=len(affinity()), imgsz=IMGSZ, least=sizes[0])
    return Found(tuple(figures), tuple(tables), (how,))


def random_model(letter: str, images: int) -> Case:
    """A checkpoint of a published size with random weights."""
    torch.manual_seed(0)
    model = new_model("yolov5", v6_spec(letter, len(CLASSES)), tuple(CLASSES))
    with torch.no_grad():
        for conv in model.net.model[-1].m:  # type: ignore[union-attr, index]
            conv.bias.view(-1, 5 + len(CLASSES))[:, 4] += RARE
    file = WORK / "growth" / f"random-{letter}.pt"
    save_model(file, model)
    work = sum(multiplications(fused(model).net))  # type: ignore[arg-type]
    return Case(f"yolov5{letter}", file, images, work / 1e6)


def run_stages(case: Case) -> dict[str, Cost]:
    """Each stage of one case, from nothing, in the order that they read one another."""
    folder = WORK / "growth" / case.name.replace(" ", "-")
    shutil.rmtree(folder, ignore_errors=True)
    common = ["--weights", str(case.weights), "--data", str(drawn(case.images)), "--device", "cpu"]
    common += ["--imgsz", str(IMGSZ), "--project", str(folder.parent), "--name", folder.name]
    images = str(case.images)
    options = {
        "baseline": [],
        "ptq": ["--images", images],
        "sensitivity": ["--images", "0", "--screen", images, "--top", "3", "--runs", "5"],
        "diagnose": ["--images", str(min(case.images, 1000)), "--plots", "0"],
        "qat": ["--epochs", "1", "--epoch-images", "0"],
        "engine": ["--engine", "openvino", "--runs", "5"],
    }
    costs = {stage: cost([stage, *common, *more]) for stage, more in options.items()}
    report = ["--project", str(folder.parent), "--name", folder.name]
    return costs | {"report": cost(["report", *report])}


def cost(arguments: Sequence[str]) -> Cost:
    """Run one stage in a process of its own.

    Raises:
        CalledProcessError: it failed.
    """
    command = [sys.executable, "-c", ALONE, sys.executable, "-m", "yoloq", *arguments]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE)
    return Cost(*map(float, done.stdout.split()[-3:]))


def drawn(images: int) -> Path:
    """The yaml of a set with so many drawn images in each split."""
    folder = WORK / "growth" / f"set-{images}"
    ensure(folder, train=images, val=images, imgsz=IMGSZ)
    content = {"path": str(folder), "train": "images/train", "val": "images/val"}
    file = WORK / "growth" / f"set-{images}.yaml"
    write_text(file, yaml.safe_dump(content | {"names": list(CLASSES)}))
    return file


def rows_of(
    stage: str, cases: Sequence[Case], costs: Sequence[dict[str, Cost]]
) -> list[tuple[Any, ...]]:
    """A row a case: the costs of one stage, and how fast they grew since the case before."""
    found = [cost[stage] for cost in costs]
    time_grown = exponents([case.work for case in cases], [each.cpu for each in found])
    peak_grown = exponents([case.work for case in cases], [each.peak for each in found])
    return [
        (stage, case.name, case.work, each.seconds, each.cpu, each.peak, grown, more)
        for case, each, grown, more in zip(cases, found, time_grown, peak_grown, strict=True)
    ]


def exponents(work: Sequence[float], costs: Sequence[float]) -> list[float | None]:
    """log(cost ratio) / log(work ratio) of each against the one before; None for the first."""
    pairs = zip(pairwise(work), pairwise(costs), strict=True)
    return [None, *(float(np.log(c[1] / c[0]) / math.log(w[1] / w[0])) for w, c in pairs)]


if __name__ == "__main__":
    raise SystemExit(main("growth", measure, built_in=True))
