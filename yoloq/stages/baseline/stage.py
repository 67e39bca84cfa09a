"""FP32 baseline: the accuracy that INT8 is held against, in PyTorch."""

import time
from pathlib import Path
from typing import Any

import numpy as np

from yoloq.base.machine import torch_device
from yoloq.base.result import Row, StageResult
from yoloq.base.say import say, warn
from yoloq.engines.torch import TorchPredictor
from yoloq.geometry.detections import Detections
from yoloq.measure.latency import end_to_end, measure
from yoloq.stages.baseline import BaselineConfig
from yoloq.stages.end import command
from yoloq.stages.row import BASELINE, describe, find, recorded, save_records, timing
from yoloq.stages.run import Inputs, finished, open_inputs, report_labels

FEW = 30  # val images; below this the interval itself is a guess


def run(config: BaselineConfig) -> StageResult:
    """Write `baseline.json` and the detections that later stages compare with.

    Images that cannot be read are left out here and in every later stage, and are counted.
    """
    began = time.perf_counter()
    inputs = open_inputs(config)
    key = inputs.key("baseline", timed=True)
    done = finished(config.folder, "baseline", key, config.force)
    if done is not None:
        return done
    device = torch_device(config.device)
    report_labels(inputs)
    predictor = TorchPredictor(inputs.model.net, inputs.info, device, "fp32")
    skipped: list[Path] = []
    found = find(inputs, predictor, skipped, "detect, torch fp32")
    inputs, found = _readable(inputs, found, skipped)
    if len(inputs.images) < FEW:
        warn(
            f"{len(inputs.images)} val images: AP and its interval say little; give `val` {FEW} or "
            "more"
        )
    fields, record = recorded(inputs, found, found)
    row = Row(
        name="FP32",
        precision="fp32",
        engine="torch",
        size_bytes=4 * sum(p.numel() for p in inputs.model.net.parameters()),
        **fields,
        **_timing(inputs, predictor),
    )
    say(describe(row))
    found.save(config.folder / BASELINE)
    result = inputs.result(
        "baseline",
        key,
        [row],
        artifacts={"detections": BASELINE}
        | save_records(inputs, "baseline", {row.precision: record}),
        seconds={"total": time.perf_counter() - began},
        notes={
            "skipped": [str(file) for file in skipped],
            "bad_labels": len(inputs.labels[1].problems),
            "remarks": inputs.labels[1].remarks,
        },
    )
    result.write(config.folder / "baseline.json")
    return result


def next_step(config: BaselineConfig, found: StageResult) -> str:
    """Calibrate."""
    return command(config, "ptq")


def _readable(inputs: Inputs, found: Detections, skipped: list[Path]) -> tuple[Inputs, Detections]:
    """Inputs and detections without the images that could not be read, renumbered."""
    if not skipped:
        return inputs, found
    readable = np.array([image not in set(skipped) for image in inputs.images])
    numbers = np.cumsum(readable) - 1
    left = Detections(
        int(readable.sum()), numbers[found.image], found.boxes, found.scores, found.classes
    )
    return inputs.without(skipped), left


def _timing(inputs: Inputs, predictor: TorchPredictor) -> dict[str, Any]:
    blank = np.zeros((1, inputs.imgsz, inputs.imgsz, 3), np.uint8)
    calls = {"model": lambda: predictor(blank)}
    latency = measure(calls, runs=20, warmup=3, title="time the model, torch fp32")["model"]
    title = "time from file to boxes, torch fp32"
    path = end_to_end(predictor, inputs.images, runs=20, warmup=3, title=title)
    return timing(latency, path)
