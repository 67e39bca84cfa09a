"""Reach: the int8 file of every runtime that is installed: accuracy, fidelity, time."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accuracy import points
from latency import EngineFile, Load, Timed, time_models
from record import INTERVAL, SPREAD, Column, Found, Table
from subject import Subject, main

from yoloq.base.machine import affinity
from yoloq.engines import engine_row
from yoloq.engines.base import engine_files
from yoloq.engines.source import Source
from yoloq.measure.ap import fidelity
from yoloq.report.words import engine_name
from yoloq.stages.row import find

BASE = "OpenVINO INT8"
COLUMNS = (
    Column("Runtime"),
    Column("AP", "{:.2f}"),
    Column("AP50", "{:.2f}"),
    Column("Delta", "{:+.2f}"),
    Column("95% interval", INTERVAL),
    Column("Fidelity", "{:.3f}"),
    Column("Fidelity to its simulation", "{:.3f}"),
    Column("Size MB", "{:.1f}"),
    Column("p50 ms", "{:.2f}"),
    Column(f"Time / {BASE}", "{:.3f}"),
    Column("Least to largest", SPREAD),
)
HOW = (
    "Each runtime's int8 is of PTQ with the placement that is its default (ptq --engine), on "
    "{images} calibration images. Its simulation is that network in PyTorch; fidelity to it takes "
    "the simulation's detections as the truth. Not timed: what a CPU is not the place for."
)


@dataclass(frozen=True)
class Runtime:
    """One row.

    Attributes:
        options: of PTQ, beyond the engine's own defaults.
        timed: whether a CPU is the place for it.
        kind: of integers, behind its name.
    """

    engine: str
    kind: str = "INT8"
    options: dict[str, Any] = field(default_factory=dict)
    timed: bool = True

    @property
    def title(self) -> str:
        """Of its row."""
        return f"{engine_name(self.engine)} {self.kind}"


RUNTIMES = (
    Runtime("openvino"),
    Runtime("onnxruntime"),
    Runtime("litert"),
    Runtime("litert", "INT16, weights INT8", {"activation_bits": 16}, timed=False),
    Runtime("ncnn"),
)


def measure(subject: Subject) -> Found:
    """A row for each runtime; of one that is not installed it says so."""
    image = subject.inputs.images[0]
    scores: dict[str, tuple[Any, ...]] = {}
    groups: list[dict[str, Load]] = []
    for each in RUNTIMES:
        if engine_row(each.engine).is_installed:
            source = subject.quantized(engine=each.engine, **each.options)
            file = build(subject, each, source)
            scores[each.title] = score(subject, each, source, file)
            if each.timed:
                groups.append({each.title: EngineFile(each.engine, "int8", file, image)})
    timed = time_models(groups, bool(subject.limit))
    rows = [row(each.title, scores.get(each.title), timed) for each in RUNTIMES]
    how = (HOW.format(images=subject.calibration_images), timed.how)
    return Found(tables=(Table("Runtimes", COLUMNS, tuple(rows)),), how=how)


def build(subject: Subject, runtime: Runtime, source: Source) -> Path:
    """The runtime's file, in a folder of its own: two may have one name."""
    folder = subject.folder / runtime.title.replace(" ", "-").replace(",", "").lower()
    folder.mkdir(parents=True, exist_ok=True)
    return engine_row(runtime.engine).make(source, "int8", folder)


def score(subject: Subject, runtime: Runtime, source: Source, file: Path) -> tuple[Any, ...]:
    """Accuracy, fidelity to FP32 and to the simulation, and size."""
    predictor = engine_row(runtime.engine).load(file, "int8", "cpu", len(affinity()))
    found = find(subject.inputs, predictor)
    simulated = subject.load(source, "torch", "int8")
    parity = fidelity(find(subject.inputs, simulated), found, subject.inputs.nc)
    size = sum(part.stat().st_size for part in engine_files(file)) / 1e6
    return (*points(subject, found), parity, size)


def row(title: str, scores: tuple[Any, ...] | None, timed: Timed) -> tuple[Any, ...]:
    """Of a table; scores are None of what is not installed."""
    if scores is None:
        return (f"{title}: not installed", *[None] * (len(COLUMNS) - 1))
    if title not in timed.names:
        return (title, *scores, None, None, None)
    return (title, *scores, timed.milliseconds(title)[0], *timed.ratio(title, BASE))


if __name__ == "__main__":
    raise SystemExit(main("reach", measure))
