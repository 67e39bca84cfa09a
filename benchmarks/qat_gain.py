"""PTQ against QAT, evaluated alike, where quantization is easy and where it is not."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from record import Column, Figure, Found, Table
from subject import Subject, main
from torch import Tensor, nn

from yoloq.base.machine import affinity, keep_freed_memory
from yoloq.base.result import Row
from yoloq.engines import get_engine
from yoloq.engines.predictor import Predictor
from yoloq.engines.source import Source
from yoloq.engines.torch import TorchPredictor
from yoloq.measure.ap import Score, score
from yoloq.measure.bootstrap import Interval, paired_bootstrap
from yoloq.quant.quantized import load_quantized
from yoloq.stages.ptq import PtqConfig
from yoloq.stages.ptq import stage as ptq
from yoloq.stages.qat import QatConfig
from yoloq.stages.qat import stage as qat
from yoloq.stages.row import find

EPOCHS = 6
TRAIN_IMAGES = 288  # an epoch
VAL_IMAGES = 160  # on which the epoch is chosen
LEAST = 0.001  # fidelity by which QAT has to be better than PTQ where there is something to gain
SEEDS = {"synthetic": (0, 1, 2), "coco-mini": (0,)}
COLUMNS = (
    Column("Setting"),
    Column("Seeds", "{}"),
    Column("PTQ fidelity", "{}"),
    Column("QAT fidelity", "{}"),
    Column("Of the last epoch", "{}"),
    Column("PTQ AP", "{}"),
    Column("QAT AP", "{}"),
    Column("QAT AP - PTQ AP", "{:+.2f}"),
    Column("QAT on the engine, AP", "{}"),
    Column("Engine - fake quantization, AP", "{}"),
    Column("float64 - float32, AP", "{}"),
    Column("Minutes a run", "{:.1f}"),
)
HOW = (
    "Simulated int8 in PyTorch on {images} val images; mean and, in brackets, least to largest "
    "over the seeds, which draw the calibration images and the batches. PTQ calibrates on 128 "
    "images; QAT starts from it and distils from the FP32 model on {train} images of train, "
    "{epochs} epochs of AdamW ({rates}), and keeps the best epoch by fidelity on the first "
    "{chosen} val images, epoch 0 (PTQ) included: where these are all of them, the figure of the "
    "best of several is slightly optimistic. The gain from PTQ to QAT is on all images. 4-bit "
    "weights are stored in int8 and claim no speed. The engine is OpenVINO on the CPU. The last "
    "differences are the largest over the seeds with their paired 95% interval. float64 - float32 "
    "is fake quantization against itself, with sums of another precision: the integers differ only"
    " where a value lies at a rounding boundary, and the layers behind spread that. No engine can "
    "be expected to be closer than this.",
)


@dataclass(frozen=True)
class Setting:
    """One line of the table: options of PTQ and of QAT that differ from the defaults."""

    name: str
    ptq: dict[str, Any] = field(default_factory=dict)
    qat: dict[str, Any] = field(default_factory=dict)


SETTINGS = (
    Setting("default policy"),
    Setting("everything in int8", {"float_head": False, "float_first": 0}),
    Setting("per-tensor weights", {"weights_per": "tensor"}, {"lr": 5e-4}),
    Setting("4-bit weights", {"weight_bits": 4}, {"lr": 3e-3}),
)


@dataclass(frozen=True)
class Pair:
    """PTQ and QAT of one seed in a run folder; `minutes` is of training.

    `epochs` are the lines of the training's log.
    """

    ptq: Row
    qat: Row
    folder: Path
    minutes: float
    epochs: list[dict[str, Any]]


@dataclass(frozen=True)
class Apart:
    """AP of the QAT model on an engine, and how far that and float64 are from fake quantization."""

    engine_map: float
    engine: Interval
    double: Interval


def measure(subject: Subject) -> Found:
    """The table, and whether QAT is better than PTQ beyond the spread of the seeds."""
    keep_freed_memory()
    seeds = SEEDS[subject.name]
    found = [(item, [run(subject, item, seed) for seed in seeds]) for item in SETTINGS]
    figures = [
        Figure(
            f"{item.name}: least QAT fidelity - largest PTQ fidelity",
            min(p.qat.fidelity for p in pairs) - max(p.ptq.fidelity for p in pairs),
            "{:+.3f}",
            low=None if item == SETTINGS[0] else LEAST,
        )
        for item, pairs in found
    ]
    compared = [[compare(subject, pair.folder) for pair in pairs] for _, pairs in found]
    of_engine = farthest([apart.engine for row in compared for apart in row])
    of_double = farthest([apart.double for row in compared for apart in row])
    figures += [
        Figure(
            "AP, QAT engine against fake quantization",
            100 * abs(of_engine.delta),
            high=0.2,
            note=f"95% interval {between(of_engine)}",
        ),
        Figure(
            "AP, fake quantization in float64 against float32",
            100 * abs(of_double.delta),
            note=f"95% interval {between(of_double)}",
        ),
    ]
    rows = tuple(
        line(item.name, pairs, apart) for (item, pairs), apart in zip(found, compared, strict=True)
    )
    images = len(subject.inputs.images)
    chosen = min(VAL_IMAGES, images)
    numbers = {"images": images, "chosen": chosen, "train": TRAIN_IMAGES, "epochs": EPOCHS}
    how = [text.format(**numbers, rates=rates()) for text in HOW]
    return Found(tuple(figures), (Table("PTQ against QAT", COLUMNS, rows),), tuple(how))


def rates() -> str:
    """The learning rates that are not the default, in words."""
    given = [f"--lr {item.qat['lr']:g} for {item.name}" for item in SETTINGS if "lr" in item.qat]
    return ", ".join(["the default rate", *given])


def run(subject: Subject, item: Setting, seed: int) -> Pair:
    """PTQ and QAT in a run folder of their own; what is there already is reused."""
    assert subject.baseline
    name = f"{subject.folder.name}-qat-{item.name.replace(' ', '-')}-{seed}"
    calibration = replace(subject.config(PtqConfig, seed=seed, **item.ptq), name=name)
    before = ptq.run(calibration)
    common = {"epochs": EPOCHS, "train_images": TRAIN_IMAGES, "val_images": VAL_IMAGES}
    options = common | item.qat
    after = qat.run(replace(subject.config(QatConfig, seed=seed, **options), name=name))
    minutes = after.seconds["train"] / 60
    folder = subject.folder.with_name(name)
    return Pair(before.rows[0], after.rows[0], folder, minutes, after.notes["epochs"])


def compare(subject: Subject, folder: Path) -> Apart:
    """The QAT model on OpenVINO and in float64 against fake quantization in float32."""
    quantized = load_quantized(folder / "qat.pt")
    net, info, cpu = quantized.model.net, subject.info, torch.device("cpu")
    engine = get_engine("openvino")
    file = engine.make(Source(info, subject.inputs.model, quantized), "int8", folder)
    loaded = engine.load(file, "int8", "cpu", len(affinity()))
    simulated = scored(subject, "simulated int8", TorchPredictor(net, info, cpu, "int8"))
    on_engine = scored(subject, "openvino int8", loaded)
    in_double = scored(subject, "in float64", TorchPredictor(Double(net), info, cpu, "int8"))
    return Apart(
        on_engine.map50_95,
        paired_bootstrap(simulated.matches, on_engine.matches),
        paired_bootstrap(simulated.matches, in_double.matches),
    )


class Double(nn.Module):
    """A network that computes in float64; takes it over."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net.double()

    def forward(self, x: Tensor) -> list[Tensor]:
        return [raw.float() for raw in self.net(x.double())]


def scored(subject: Subject, name: str, predictor: Predictor) -> Score:
    """AP of a predictor."""
    found = find(subject.inputs, predictor, title=f"detect, {name}")
    return score(subject.inputs.truth, found, subject.inputs.nc)


def line(name: str, pairs: list[Pair], compared: list[Apart]) -> tuple[Any, ...]:
    """One row of the table."""
    engine, double = (
        farthest(found) for found in ([a.engine for a in compared], [a.double for a in compared])
    )
    return (
        name,
        str(len(pairs)),
        spread([p.ptq.fidelity for p in pairs], "{:.3f}"),
        spread([p.qat.fidelity for p in pairs], "{:.3f}"),
        spread([p.epochs[-1]["fidelity"] for p in pairs], "{:.3f}"),
        spread([100 * p.ptq.ap for p in pairs], "{:.2f}"),
        spread([100 * p.qat.ap for p in pairs], "{:.2f}"),
        100 * mean(p.qat.ap - p.ptq.ap for p in pairs),
        spread([100 * a.engine_map for a in compared], "{:.2f}"),
        between(engine),
        between(double),
        mean(p.minutes for p in pairs),
    )


def farthest(intervals: Iterable[Interval]) -> Interval:
    """The one with the largest difference."""
    return max(intervals, key=lambda interval: abs(interval.delta))


def between(found: Interval) -> str:
    """A difference and its interval, in AP."""
    delta, low, high = (100 * value for value in (found.delta, found.low, found.high))
    return f"{delta:+.2f} ({low:+.2f} to {high:+.2f})"


def spread(values: list[float], form: str) -> str:
    """Mean, and the extremes where there are several."""
    text = form.format(mean(values))
    if len(values) == 1:
        return text
    return f"{text} ({form.format(min(values))} to {form.format(max(values))})"


if __name__ == "__main__":
    raise SystemExit(main("qat_gain", measure))
