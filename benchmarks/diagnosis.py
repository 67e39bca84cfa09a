"""The diagnosis of the default PTQ model: its worst layers, its findings, and planted faults."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml
from record import RESULTS, Column, Figure, Found, Table
from subject import Subject, main

from yoloq.base.files import write_text
from yoloq.base.result import hashes, read_result
from yoloq.models.load import load_model, save_model
from yoloq.quant.calibrate import get_ranges, set_ranges
from yoloq.quant.quantized import load_quantized, save_quantized
from yoloq.stages.diagnose import DiagnoseConfig
from yoloq.stages.diagnose import stage as diagnose
from yoloq.stages.diagnose.stage import worst
from yoloq.stages.ptq import PtqConfig
from yoloq.stages.ptq import stage as ptq

IMAGES = 32
SHOWN = 12
FAULTY = "model.6.cv3.conv"  # in the middle of the network
FACTOR_RANGE, FACTOR_CHANNEL = 20, 100
PICTURES = ("errors", "images")
LAYERS = (
    Column("Layer"),
    Column("Cosine", "{:.4f}"),
    Column("SNR dB", "{:.1f}"),
    Column("Median relative error", "{:.3f}"),
    Column("By itself dB", "{:.1f}"),
    Column("Weight only dB", "{:.1f}"),
    Column("Activation only dB", "{:.1f}"),
    Column("Clipped share", "{:.0%}"),
    Column("Codes used", "{:.0%}"),
    Column("Input max / 99.9%", "{:.1f}"),
)
FAULTS = (Column("Planted"), Column("Found in"), Column("Kind"), Column("Text"))
HOW = (
    "{images} val images, default PTQ, FP32 against simulated INT8 in PyTorch. SNR, cosine and "
    "relative error are of a convolution's output with all that went wrong before it; by itself, "
    "weight only and activation only are with the input of the float network. Clipped share is of "
    "the squared error of its input's quantization. Worst by itself first.",
    "Faults are planted one at a time into a copy of the run and diagnosed from the command's own "
    "entry: {layer}'s amax times {factor}; one of its channels' weights times {channel}; black "
    "calibration images.",
)


def measure(subject: Subject) -> Found:
    """Table of the healthy model, and what is found where something was broken."""
    ptq.run(subject.config(PtqConfig))
    result = diagnose.run(subject.config(DiagnoseConfig, images=IMAGES, plots=4, force=True))
    keep_pictures(subject, result.artifacts)
    planted = {name: plant(subject) for name, plant in FAULTY_RUNS.items()}
    rows = [
        (name, item["layer"] or "-", item["kind"], item["text"])
        for name, found in planted.items()
        for item in found or [{"layer": "", "kind": "nothing", "text": ""}]
    ]
    healthy = [item["kind"] for item in result.notes["findings"]]
    figures = (
        Figure("Fidelity of the healthy model on these images", result.notes["fidelity"]),
        Figure("Findings in the healthy model", len(healthy), "{:.0f}", note=", ".join(healthy)),
        Figure("Planted faults named", named(planted), "{:.0f}", low=len(planted)),
    )
    how = [text.format(images=IMAGES, layer=FAULTY, factor=FACTOR_RANGE, channel=FACTOR_CHANNEL)
           for text in HOW]  # fmt: skip
    tables = (
        Table(f"The {SHOWN} worst layers", LAYERS, layer_rows(result.notes)),
        Table("Planted faults", FAULTS, tuple(rows)),
    )
    return Found(figures, tables, tuple(how))


def layer_rows(notes: dict[str, Any]) -> tuple[tuple[Any, ...], ...]:
    """Lines of the table."""
    return tuple(
        (
            row["layer"],
            row["error"]["cosine"],
            row["error"]["snr"],
            row["error"]["relative"],
            row["own"]["both"],
            row["own"]["weight"],
            row["own"]["activation"],
            row["own"]["clipped"],
            row["input"] and row["input"]["codes_used"],
            row["input"] and row["input"]["outliers"],
        )
        for row in worst(notes["layers"])[:SHOWN]
    )


def keep_pictures(subject: Subject, artifacts: dict[str, str]) -> None:
    """Copy the pictures of errors, of amax by images, and of the worst layer's input."""
    histogram = next(name for name in artifacts if name.startswith("input-"))
    folder = RESULTS / subject.name
    if subject.limit:
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*PICTURES, histogram):
        if name in artifacts:
            target = "histogram" if name == histogram else name
            shutil.copy(subject.folder / artifacts[name], folder / f"diagnosis-{target}.png")


def copied(subject: Subject, name: str) -> Path:
    """A copy of the run folder to break."""
    folder = subject.folder.with_name(f"{subject.folder.name}-{name}")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(subject.folder, folder)
    return folder


def findings(subject: Subject, folder: Path, **options: Any) -> list[dict[str, Any]]:
    """What the diagnosis of a run folder finds."""
    config = replace(subject.config(DiagnoseConfig, images=IMAGES, plots=0), name=folder.name)
    found: list[dict[str, Any]] = diagnose.run(replace(config, **options)).notes["findings"]
    return found


def wide_range(subject: Subject) -> list[dict[str, Any]]:
    """One layer's amax too large."""
    folder = copied(subject, "range")
    quantized = load_quantized(folder / "ptq.pt")
    ranges = get_ranges(quantized.model.net)
    ranges[f"{FAULTY}.input_quantizer"] *= FACTOR_RANGE
    set_ranges(quantized.model.net, ranges)
    save_quantized(folder / "ptq.pt", quantized)
    result = read_result(folder / "ptq.json")
    assert result is not None
    replace(result, hashes=hashes(folder, result.artifacts)).write(folder / "ptq.json")
    return findings(subject, folder)


def large_channel(subject: Subject) -> list[dict[str, Any]]:
    """One channel's weights too large, in the checkpoint."""
    folder = subject.folder.with_name(f"{subject.folder.name}-channel")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    model = load_model(subject.weights)
    with torch.no_grad():
        weight = model.net.get_submodule(FAULTY).weight
        assert isinstance(weight, torch.Tensor)
        weight[3] *= FACTOR_CHANNEL
    save_model(folder / "faulty.pt", model)
    return findings(subject, folder, weights=str(folder / "faulty.pt"))


def black_images(subject: Subject) -> list[dict[str, Any]]:
    """Calibration on black images."""
    folder = subject.folder.with_name(f"{subject.folder.name}-black")
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "black").mkdir(parents=True)
    for index in range(IMAGES):
        cv2.imwrite(str(folder / "black" / f"{index}.png"), np.zeros((64, 64, 3), np.uint8))
    document = yaml.safe_load(subject.data.read_text(encoding="utf-8"))
    root = (subject.data.parent / document.get("path", ".")).resolve()
    document |= {"path": str(root), "train": str((folder / "black").resolve())}
    document.pop("generate", None)
    data = folder / "black.yaml"
    write_text(data, yaml.safe_dump(document, sort_keys=False))
    return findings(subject, folder, data=str(data))


FAULTY_RUNS: dict[str, Callable[[Subject], list[dict[str, Any]]]] = {
    "range too wide": wide_range,
    "weight outlier channel": large_channel,
    "calibration images": black_images,
}


def named(planted: dict[str, list[dict[str, Any]]]) -> int:
    """How many faults were found under their kind, in their layer where they have one."""
    layers = {"calibration images": ""}
    return sum(
        any((item["kind"], item["layer"]) == (kind, layers.get(kind, FAULTY)) for item in found)
        for kind, found in planted.items()
    )


if __name__ == "__main__":
    raise SystemExit(main("diagnosis", measure))
