"""Repairs of PTQ at 8 bits and below: what each gains over plain calibration, and its seconds."""

import time
from collections.abc import Sequence
from typing import Any

import torch
from record import INTERVAL, Column, Figure, Found, Table
from subject import Subject, main

from yoloq.engines.torch import TorchPredictor
from yoloq.measure.places import PlaceError
from yoloq.quant.refine import REPAIRS
from yoloq.quant.refine.apply import batches_of
from yoloq.stages.row import accuracy, find

SETTINGS: dict[str, dict[str, Any]] = {
    "W8A8": {},
    "W8A8, head too": {"float_head": False},
    "W6A6": {"weight_bits": 6, "activation_bits": 6},
    "W4A8": {"weight_bits": 4},
    "W4A4": {"weight_bits": 4, "activation_bits": 4},
}
CLOSED = ("gptq", "bias", "gptq bias")  # no steps: for every setting
FITTED = ("adaround", "block")  # minutes: where there is most to gain
FITTED_AT = "W4A8"
PLACES = 96  # val images on which boxes are compared at their places
COLUMNS = (
    Column("Setting"),
    Column("Repair"),
    Column("AP", "{:.2f}"),
    Column("Delta", "{:+.2f}"),
    Column("95% interval", INTERVAL),
    Column("Fidelity", "{:.3f}"),
    Column("Error at boxes, 1e-4", "{:.1f}"),
    Column("Seconds", "{:.0f}"),
)
HOW = (
    "Simulated int8 in PyTorch, default PTQ on {images} calibration images, of which repairs see "
    "the default number. Fewer than 8 bits: the first layer has 8, the head is in float unless it "
    "is named. Error at boxes: mean square of 1 - IoU plus that of the scores' error, at the "
    "places of the float network's boxes on {places} val images. Seconds of the repair alone.",
)


def measure(subject: Subject) -> Found:
    """A row for each setting and repair."""
    rows = []
    for setting, options in SETTINGS.items():
        fitted = FITTED if setting == FITTED_AT else ()
        for repair in ("", *CLOSED, *fitted):
            rows.append((setting, repair or "none", *_row(subject, repair.split(), options)))
    by_name = {(row[0], row[1]): row for row in rows}
    figures = (
        Figure("W4A8, block: AP", by_name["W4A8", "block"][2], "{:.2f}", low=_least(subject)),
        Figure("W4A8, gptq: AP", by_name["W4A8", "gptq"][2], "{:.2f}", low=_least(subject)),
        Figure("W8A8, head too, gptq: fidelity", by_name["W8A8, head too", "gptq"][5], "{:.3f}"),
    )
    how = tuple(text.format(images=subject.calibration_images, places=PLACES) for text in HOW)
    return Found(figures, (Table("Repairs", COLUMNS, tuple(rows)),), how)


def _least(subject: Subject) -> float | None:
    return 24.0 if subject.coco_mini else None


def _row(subject: Subject, names: Sequence[str], options: dict[str, Any]) -> tuple[Any, ...]:
    assert set(names) <= set(REPAIRS)
    subject.quantized(refine=(), **options)  # calibration alone, so that its time is not counted
    began = time.perf_counter()
    subject.quantized(refine=(), **options)
    plain = time.perf_counter() - began
    began = time.perf_counter()
    net = subject.quantized(refine=tuple(names), **options).quantized.model.net
    seconds = time.perf_counter() - began - plain
    predictor = TorchPredictor(net, subject.info, torch.device("cpu"), "int8")
    figures = accuracy(subject.inputs, find(subject.inputs, predictor), subject.reference)
    low, high = figures["delta_ci95"]
    return (
        100 * figures["map50_95"],
        100 * figures["delta"],
        (100 * low, 100 * high),
        figures["fidelity"],
        1e4 * _at_places(subject, net),
        max(seconds, 0.0) if names else None,
    )


def _at_places(subject: Subject, net: torch.nn.Module) -> float:
    errors, inputs = PlaceError(subject.inputs.model.head), subject.inputs
    with torch.inference_mode():
        for batch in batches_of(inputs.images[:PLACES], inputs.imgsz, torch.device("cpu")):
            wanted, made = (
                [raw.numpy() for raw in each(batch)] for each in (inputs.model.net, net)
            )
            errors.add(wanted, made)
    return errors.power


if __name__ == "__main__":
    raise SystemExit(main("repairs", measure))
