"""PTQ against QAT, evaluated alike, where quantization is easy and where it is not."""

from dataclasses import dataclass, field, replace
from statistics import mean
from typing import Any

from record import Column, Figure, Found, Table
from subject import Subject, main

from yoloq.engines import get_engine
from yoloq.engines.base import Source
from yoloq.environment import affinity
from yoloq.heap import keep_freed_memory
from yoloq.quantized import load_quantized
from yoloq.results import Row
from yoloq.stages import ptq, qat
from yoloq.stages.ptq import PtqConfig
from yoloq.stages.qat import QatConfig
from yoloq.stages.rows import accuracy, find

EPOCHS = 3
TRAIN_IMAGES = 288  # an epoch
VAL_IMAGES = 160  # on which the epoch is chosen
LEAST = 0.001  # fidelity by which QAT has to be better than PTQ where there is something to gain
SEEDS = {"synthetic": (0, 1, 2), "coco-mini": (0,)}
COLUMNS = (
    Column("Setting"),
    Column("Seeds", "{}"),
    Column("PTQ fidelity", "{}"),
    Column("QAT fidelity", "{}"),
    Column("PTQ AP", "{}"),
    Column("QAT AP", "{}"),
    Column("QAT AP - PTQ AP", "{:+.2f}"),
    Column("QAT on the engine, AP", "{}"),
    Column("Largest difference to fake quantization", "{:.2f}"),
    Column("Minutes a run", "{:.1f}"),
)
HOW = (
    "Simulated int8 in PyTorch on {images} val images; mean and, in brackets, least to largest "
    "over the seeds, which draw the calibration images and the batches. PTQ calibrates on 128 "
    "images; QAT starts from it and distils from the FP32 model on {train} images of train, "
    "{epochs} epochs, and keeps the best epoch by fidelity on the first {chosen} val images, epoch "
    "0 (PTQ) included: where these are all of them, the figure of the best of several is slightly "
    "optimistic. The gain from PTQ to QAT is on all images. 4-bit weights are stored in int8 "
    "and claim no speed. The engine is OpenVINO on the CPU.",
)


@dataclass(frozen=True)
class Setting:
    """One line of the table: options of PTQ and of QAT that differ from the defaults."""

    name: str
    ptq: dict[str, Any] = field(default_factory=dict)
    qat: dict[str, Any] = field(default_factory=dict)


SETTINGS = (
    Setting("default policy"),
    Setting("everything in int8", {"float_head": False, "float_first": 0}, {"lr": 5e-5}),
    Setting("per-tensor weights", {"weights_per": "tensor"}, {"lr": 1e-4}),
    Setting("4-bit weights", {"weight_bits": 4}, {"optimizer": "sgd", "lr": 1e-3}),
)


@dataclass(frozen=True)
class Pair:
    """PTQ and QAT of one seed, and the QAT model on the engine; `minutes` is of training.

    `epochs` are the lines of the training's log.
    """

    ptq: Row
    qat: Row
    engine_map: float
    minutes: float
    epochs: list[dict[str, Any]]


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
    apart = max(100 * abs(p.engine_map - p.qat.map50_95) for _, pairs in found for p in pairs)
    figures.append(Figure("AP, QAT engine against fake quantization", apart, "{:.2f}", high=0.2))
    rows = tuple(line(item.name, pairs) for item, pairs in found)
    images = len(subject.inputs.images)
    chosen = min(VAL_IMAGES, images)
    how = [
        text.format(images=images, chosen=chosen, train=TRAIN_IMAGES, epochs=EPOCHS) for text in HOW
    ]
    return Found(tuple(figures), (Table("PTQ against QAT", COLUMNS, rows),), tuple(how))


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
    epochs = after.notes["epochs"]
    return Pair(before.rows[0], after.rows[0], on_engine(subject, name), minutes, epochs)


def on_engine(subject: Subject, name: str) -> float:
    """AP50-95 of the trained model on OpenVINO."""
    folder = subject.folder.with_name(name)
    source = Source(subject.info, subject.inputs.model, load_quantized(folder / "qat.pt"))
    engine = get_engine("openvino")
    file = engine.build(source, "int8", folder)
    predictor = engine.load(file, "int8", "cpu", len(affinity()))
    found = find(subject.inputs, predictor, title="detect, openvino int8")
    value: float = accuracy(subject.inputs, found, subject.reference)["map50_95"]
    return value


def line(name: str, pairs: list[Pair]) -> tuple[Any, ...]:
    """One row of the table."""
    return (
        name,
        str(len(pairs)),
        spread([p.ptq.fidelity for p in pairs], "{:.3f}"),
        spread([p.qat.fidelity for p in pairs], "{:.3f}"),
        spread([100 * p.ptq.map50_95 for p in pairs], "{:.2f}"),
        spread([100 * p.qat.map50_95 for p in pairs], "{:.2f}"),
        100 * mean(p.qat.map50_95 - p.ptq.map50_95 for p in pairs),
        spread([100 * p.engine_map for p in pairs], "{:.2f}"),
        max(100 * abs(p.engine_map - p.qat.map50_95) for p in pairs),
        mean(p.minutes for p in pairs),
    )


def spread(values: list[float], form: str) -> str:
    """Mean, and the extremes where there are several."""
    text = form.format(mean(values))
    if len(values) == 1:
        return text
    return f"{text} ({form.format(min(values))} to {form.format(max(values))})"


if __name__ == "__main__":
    raise SystemExit(main("qat_gain", measure))
