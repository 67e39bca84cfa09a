"""A run folder with a result of every stage, written by hand: what a report can show at all."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from yoloq.base.result import Row, StageResult, hashes
from yoloq.geometry.detections import Detections
from yoloq.measure.record import Record, Records

ENVIRONMENT = {
    "python": "3.11",
    "cpu": "a processor",
    "isa": ["avx2"],
    "gpu": None,
    "versions": {"yoloq": "0.1.0", "openvino": "2026.4", "tensorrt": None},
}
NAMES = ("person", "bear")
LAYERS = ("model.0.conv", "model.1.cv1.conv", "model.1.cv2.conv", "model.24.m.0")
HEAD = LAYERS[-1:]
IMAGES = 4
WEIGHTS = {"path": "weights/tiny.pt", "sha256": "w" * 64}
DATA = {"path": "data/tiny.yaml", "sha256": "d" * 64, "images": IMAGES, "imgsz": 64}
EPOCHS = [
    {"epoch": 1, "head": 0.5, "lr": 0.01, "fidelity": 0.95, "map50_95": 0.31, "map50": 0.52},
    {"epoch": 2, "head": 0.05, "lr": 0.001, "fidelity": 0.97, "map50_95": 0.32, "map50": 0.53},
]


def timed(p50: float, threads: int = 2) -> dict[str, Any]:
    """Fields of a row that was timed at one image."""
    how = {"batch": 1, "threads": threads, "affinity": [0, 1], "warmup": 1, "runs": 3}
    return {"latency_ms": {"p50": p50, "p99": 1.5 * p50, **how}, "fps": 1000 / p50}


def int8_row(name: str = "INT8 PTQ", engine: str = "openvino", p50: float = 4.0) -> Row:
    """An int8 engine that loses 0.1 points."""
    return Row(
        name,
        "int8",
        engine,
        0.299,
        0.51,
        delta=-0.001,
        delta_ci95=(-0.007, 0.004),
        fidelity=0.98,
        size_bytes=2_000_000,
        float_type="bf16",
        float_layers=HEAD,
        **timed(p50),
    )


def float_row(precision: str, p50: float, engine: str = "openvino") -> Row:
    """A float engine that loses nothing."""
    size = 6_000_000 if precision == "fp32" else 3_000_000
    name = precision.upper()
    return Row(name, precision, engine, 0.3, 0.512, size_bytes=size, **timed(p50))


def write(folder: Path, stage: str, *rows: Row, **more: Any) -> StageResult:
    """Write the result of a stage."""
    config = {"weights": WEIGHTS["path"], "data": DATA["path"], "name": folder.name}
    config |= more.pop("config", {})
    data = DATA | more.pop("data", {})
    result = StageResult(stage, stage, config, ENVIRONMENT, WEIGHTS, data, rows, **more)
    result.write(folder / f"{stage}.json")
    return result


def record(folder: Path, result: StageResult, shift: float = 0.0) -> None:
    """Give a result the record of its rows: a bear and a person on each of two images.

    Args:
        shift: pixels by which the boxes of image 0 are moved; at 40 none is the same any more.
    """
    boxes = np.array([[5, 5, 30, 30], [8, 20, 60, 50]], np.float32)
    found = Detections(
        IMAGES,
        np.array([0, 1]),
        boxes + np.array([[shift], [0]], np.float32),
        np.array([0.9, 0.8], np.float32),
        np.array([1, 0]),
    )
    files = tuple(str(folder / "images" / f"{index}.png") for index in range(IMAGES))
    rows = {
        row.precision: Record(found, row.map50_95 + np.linspace(-0.01, 0.01, 11))
        for row in result.rows
    }
    name = f"{result.stage}-record.npz"
    Records(files, NAMES, rows).save(folder / name)
    artifacts = result.artifacts | {"record": name}
    whole = replace(result, artifacts=artifacts, hashes=hashes(folder, {"record": name}))
    whole.write(folder / f"{result.stage}.json")


def whole_run(folder: Path) -> Path:
    """A run in which every stage has run; returns the folder."""
    (folder / "images").mkdir(parents=True)
    for index in range(IMAGES):
        shade = np.full((48, 64, 3), 60 * index, np.uint8)
        cv2.imwrite(str(folder / "images" / f"{index}.png"), shade)
    baseline = Row("FP32", "fp32", "torch", 0.3, 0.512, size_bytes=7_000_000, **timed(20.0))
    record(folder, write(folder, "baseline", baseline))
    simulated = replace(int8_row(engine="torch"), simulated=True, latency_ms=None, fps=None)
    plans = [{"layer": n, "int8": n not in HEAD, "scale": 0.02, "zero_point": 0} for n in LAYERS]
    record(folder, write(folder, "ptq", simulated, notes={"layers": plans}), 40)
    write_engine(folder)
    write(folder, "qat", replace(simulated, name="INT8 QAT"), notes=qat_notes())
    write(
        folder,
        "sensitivity",
        notes=sweep_notes(),
        config={"mode": "leave-one-out", "grain": "conv"},
    )
    write(folder, "search", notes=search_notes(), data={"images": 2})
    write(folder, "diagnose", notes=diagnosis_notes())
    swap = {"layers": list(LAYERS), "time_ratio": {"fp32": 0.9, "int8": None}, "epochs": EPOCHS}
    notes = swap | {"best": {"epoch": 2, "value": 0.97}}
    write(folder, "swap", float_row("fp32", 9.0), notes=notes, config={"activation": "relu"})
    return folder


def write_engine(folder: Path, *rows: Row) -> None:
    """OpenVINO with FP32, 16 bits and int8, or these rows; a layer of it does not run in int8."""
    rows = rows or (float_row("fp32", 8.0), float_row("bf16", 6.0), int8_row())
    types = ("int8", "int8", "bf16", "bf16")
    layers = [
        {"layer": n, "type": t, "scale": 0.02, "zero_point": 128, "ms": 0.5, "float_ms": 0.4}
        for n, t in zip(LAYERS, types, strict=True)
    ]
    notes = {"layers": {"int8": {"float": "bf16", "layers": layers}}}
    record(folder, write(folder, "engine-openvino", *rows, notes=notes), 40)


def qat_notes() -> dict[str, Any]:
    """Two epochs, of which the second is kept."""
    best = {"epoch": 2, "fidelity": 0.97, "ptq": 0.94}
    return {"quantized": "ptq", "quantized_key": "ptq", "best": best, "epochs": EPOCHS}


def sweep_notes() -> dict[str, Any]:
    """Two layers that were scored in full, and two that were not."""
    rest = dict.fromkeys(("fidelity_gain", "map50_95_gain", "int8_ms", "float_ms", "worth"))
    layers: list[dict[str, Any]] = [{"name": name, "snr_gain": 0.5} | rest for name in LAYERS]
    layers[0] |= {"fidelity_gain": [0.02, 0.01, 0.03], "map50_95_gain": [0.001, -0.001, 0.003]}
    layers[0] |= {"int8_ms": 0.1, "float_ms": 0.3, "worth": 0.1}
    layers[1] |= {"fidelity_gain": [-0.001, -0.004, 0.002], "map50_95_gain": None}
    found = {"floats": ["model.0.conv"], "reached": True, "max_drop": 0.002}
    return {"layers": layers, "search": found}


def search_notes() -> dict[str, Any]:
    """An engine in int8, which is the answer, and one in FP32."""
    common = {"predicted_ms": None, "predicted_loss": None, "front": True, "map50_95": 0.3}
    fp32 = {"name": "fp32", "ms": 8.0, "loss": 0.0, "int8": False, "fidelity": 1.0}
    int8 = {"name": "all in int8", "ms": 4.0, "loss": 0.02, "int8": True, "fidelity": 0.98}
    points = [
        common | fp32 | {"loss_ci95": [0.0, 0.0]},
        common | int8 | {"loss_ci95": [0.01, 0.03], "predicted_ms": 4.2, "predicted_loss": 0.018},
    ]
    words = "the best trade of time for fidelity: int8, all in int8"
    return {"points": points, "chosen": "all in int8", "measure": "fidelity", "verdict": words}


def diagnosis_notes() -> dict[str, Any]:
    """Figures of all layers, a finding, and a histogram."""
    own = {"both": 24.5, "weight": 30.0, "activation": 26.0}
    layers = [
        {"layer": n, "error": {"snr": 40.0 - 8 * i, "cosine": 0.999}, "own": own}
        for i, n in enumerate(LAYERS)
    ]
    layers[-1]["own"] = None
    finding = {"layer": LAYERS[1], "kind": "range too wide", "text": "loses 9 dB"}
    finding |= {"advice": "make ptq ARGS='--calibrator mse'", "calibrator": "mse"}
    return {
        "quantized": "ptq",
        "images": 4,
        "fidelity": 0.98,
        "first_below": {"snr": LAYERS[3], "cosine": None},
        "findings": [finding],
        "layers": layers,
        "histograms": [
            {"layer": LAYERS[1], "edges": [-1.0, 0.0, 1.0, 4.0], "counts": [100, 1000, 1]}
            | {"amax": {"mse": 2.5, "max": 4.0}, "used": "mse"}
        ],
    }
