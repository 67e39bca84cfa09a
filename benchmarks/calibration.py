"""Calibration time: collecting statistics and choosing ranges against a plain forward pass."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from latency import spread
from record import SPREAD, Column, Figure, Found, Table
from subject import Subject, main
from torch import Tensor

from yoloq.data.loader import iterate, sample
from yoloq.quant.influence import Counts, influence
from yoloq.quant.observer import BINS, Collected, collect
from yoloq.quant.ptq import INFLUENCE_BATCH, INFLUENTIAL, calibrate_model
from yoloq.quant.trace import sibling_groups, trace
from yoloq.stages.ptq import PtqConfig
from yoloq.stages.ptq.stage import read_policy

IMGSZ = 640
REPETITIONS = 5
USUAL = ("statistics", "influence", "ranges")  # of the default calibrator
COLUMNS = (Column("Step"), Column("Seconds", "{:.2f}"), Column("Least to largest", SPREAD))
HOW = (
    "{images} images at {imgsz} px in batches of {batch}, loaded before the clock starts; PyTorch "
    "FP32 on {threads} threads; steps in turn, {repetitions} repetitions after one to warm up. "
    "Extremes are exact over every element; histograms have {bins} bins of a seeded sample of "
    "{per_image} elements of each tensor and image, {elements} of each tensor. "
    f"Influence is of {INFLUENTIAL} images, forward and back."
)


def measure(subject: Subject) -> Found:
    """Ratio of calibrating to a plain forward pass over the same batches."""
    config = subject.inputs.config
    assert isinstance(config, PtqConfig)
    batches = load(subject, config)
    groups = sibling_groups(trace(subject.inputs.model.net))
    collected = collect(subject.inputs.model.net, groups, batches, config.images)
    collected = with_influence(subject, collected, batches)
    steps = make_steps(subject, config, batches, collected)
    for step in steps.values():
        step()
    rows = [{name: seconds(step) for name, step in steps.items()} for _ in range(REPETITIONS)]
    collecting = [row["statistics"] / row["forward pass"] for row in rows]
    plain = [(row["statistics"] + row["ranges"]) / row["forward pass"] for row in rows]
    whole = [sum(row[name] for name in USUAL) / row["forward pass"] for row in rows]
    entropy = spread([row["entropy"] for row in rows])[0]
    figures = (
        _ratio("Calibrating / plain forward pass", whole, 1.25),
        _ratio("Calibrating without influence / plain forward pass", plain, None),
        _ratio("Collecting statistics alone / plain forward pass", collecting, None),
        Figure("Ranges of all layers by entropy, seconds", entropy, "{:.2f}", high=2.0),
    )
    table = [(name, *spread([row[name] for row in rows])) for name in steps]
    return Found(
        figures, (Table("Calibration", COLUMNS, tuple(table)),), (_how(config, collected),)
    )


def load(subject: Subject, config: PtqConfig) -> list[Tensor]:
    """The calibration images as the network takes them."""
    chosen = sample(subject.inputs.dataset.images("train"), config.images, config.seed)
    loaded = iterate(chosen, IMGSZ, config.batch_size, config.workers)
    return [torch.from_numpy(b.images).permute(0, 3, 1, 2).float() / 255 for b in loaded]


def with_influence(subject: Subject, collected: Collected, batches: list[Tensor]) -> Collected:
    """The statistics that the default calibrator reads."""
    counts = weighed(subject, collected, batches)
    inputs = {name: replace(x, influence=counts[name]) for name, x in collected.inputs.items()}
    return replace(collected, inputs=inputs)


def weighed(subject: Subject, collected: Collected, batches: list[Tensor]) -> Counts:
    """Histograms by influence, of as many images as calibration takes for it."""
    model, some = subject.inputs.model, torch.cat(batches)[:INFLUENTIAL].split(INFLUENCE_BATCH)
    edges = {name: (seen.low, seen.high) for name, seen in collected.inputs.items()}
    return influence(model.net, model.head, edges, some, BINS)


def make_steps(
    subject: Subject, config: PtqConfig, batches: list[Tensor], collected: Collected
) -> dict[str, Callable[[], Any]]:
    """What is timed: a plain pass, the pass that collects, and the ranges of the default policy."""
    model = subject.inputs.model
    groups = sibling_groups(subject.inputs.ops)
    policy, placement = read_policy(config, subject.inputs)

    def forward() -> None:
        with torch.inference_mode():
            for batch in batches:
                model.net(batch)

    def ranges(calibrator: str) -> None:
        calibrate_model(model, policy, collected, calibrator, subject.inputs.ops, placement)

    return {
        "forward pass": forward,
        "statistics": lambda: collect(model.net, groups, batches, config.images),
        "influence": lambda: weighed(subject, collected, batches),
        "ranges": lambda: ranges(config.calibrator),
        "entropy": lambda: ranges("entropy"),
    }


def seconds(step: Callable[[], Any]) -> float:
    """How long a step takes."""
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def _ratio(name: str, values: list[float], high: float | None) -> Figure:
    median, (low, most) = spread(values)
    return Figure(name, median, "{:.2f}", high=high, note=f"{low:.2f} to {most:.2f}")


def _how(config: PtqConfig, collected: Collected) -> str:
    one = next(iter(collected.inputs.values()))
    elements, images = int(one.counts.sum()), len(one.means)
    return HOW.format(
        images=images,
        imgsz=IMGSZ,
        batch=config.batch_size,
        threads=torch.get_num_threads(),
        repetitions=REPETITIONS,
        bins=BINS,
        per_image=elements // images,
        elements=elements,
    )


if __name__ == "__main__":
    raise SystemExit(main("calibration", measure))
