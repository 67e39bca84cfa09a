"""Eight bits and fewer: what each repair of PTQ and each option of QAT gains over the plain one.

    python benchmarks/below_eight.py --only W4A4,W4A8

Every run is kept with what it cost, so that a measurement that was interrupted goes on.
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

from growth import Cost, cost
from qat_gain import TRAIN_IMAGES, spread
from record import Column, Figure, Found, Table
from subject import WORK, Subject, main

from yoloq.base.files import write_text
from yoloq.base.result import Row, read_result
from yoloq.stages.baseline import BaselineConfig
from yoloq.stages.baseline import stage as baseline

SETTINGS: dict[str, str] = {  # flags of PTQ
    "W8A8": "",
    "W8A8 head": "--no-float-head",
    "W6A6": "--weight-bits 6 --activation-bits 6",
    "W4A8": "--weight-bits 4",
    "W4A4": "--weight-bits 4 --activation-bits 4",
}
SEEDS = {"synthetic": (0, 1, 2)}  # of others one
RATES = {"W4A8": "--lr 3e-3", "W4A4": "--lr 3e-3"}  # of QAT, where it is not the default
FEW = ("W4A8", "W4A4")  # settings with most to gain
LEAST = ("W4A4",)
TRAINED = ("W8A8", "W6A6", *FEW)
EPOCHS = {"synthetic": 4}  # of QAT; of photographs, which take longer, two
COST = "cost.json"


@dataclass(frozen=True)
class Method:
    """A repair or an option: the flags of its stage, the method that it is measured against.

    In the flags `{all}` stands for the epochs of QAT, `{fewer}` for one less. `settings` are those
    that it is measured in; none: all.
    """

    stage: str
    flags: str
    against: str = ""
    settings: tuple[str, ...] = ()


PLAIN, START, QAT, CORRECTED, BLOCK = "PTQ", "PTQ, gptq", "QAT", "QAT, correction", "PTQ, block"
METHODS: dict[str, Method] = {
    PLAIN: Method("ptq", "--refine none"),
    START: Method("ptq", "--refine gptq", PLAIN),
    "PTQ, bias": Method("ptq", "--refine bias", PLAIN),
    "PTQ, gptq and bias": Method("ptq", "--refine gptq bias", PLAIN),
    "PTQ, adaround": Method("ptq", "--refine adaround", PLAIN, FEW),
    BLOCK: Method("ptq", "--refine block", PLAIN, FEW),
    QAT: Method("qat", "{all}", START, TRAINED),
    CORRECTED: Method("qat", "{fewer} --correct 1", QAT, FEW),
    "PTQ, gptq, correction": Method("qat", "--epochs 0 --correct 1", START, FEW),
    "QAT, learned ranges": Method("qat", "{all} --ranges learned", QAT, FEW),
    "QAT, teacher's boxes": Method("qat", "{all} --loss both --labels teacher", QAT, LEAST),
    "QAT, focus": Method("qat", "{all} --feature-focus 0.5", QAT, LEAST),
    "QAT, front to back": Method("qat", "{all} --schedule front-to-back", QAT, LEAST),
}
COLUMNS = (
    Column("Setting"),
    Column("Method"),
    Column("Seeds", "{}"),
    Column("AP", "{}"),
    Column("Gain of AP", "{}"),
    Column("Fidelity", "{}"),
    Column("Gain of fidelity", "{}"),
    Column("Over"),
    Column("Seconds", "{:.0f}"),
    Column("CPU s", "{:.0f}"),
    Column("Peak MB", "{:.0f}"),
)
HOW = (
    "Simulated int8 in PyTorch on {images} val images (FP32: AP {reference:.2f}); mean and, in "
    "brackets, least to largest over the seeds; a gain is that over another method of the same "
    "seed. The first layer has 8 bits at least, the head is in float unless the setting says so. "
    "PTQ calibrates on 128 images. QAT starts from PTQ with gptq and distils on {train} images an "
    "epoch, {epochs} epochs in all where not said otherwise, --lr 3e-3 with 4-bit weights, and "
    "keeps the best epoch by fidelity on all val images. Seconds and peak memory are of the whole "
    "command in a process of its own, evaluation included; statistics of the images are there. "
    "Other work may have shared the cores: CPU seconds tell what a method costs.",
)


@dataclass(frozen=True)
class Run:
    """What one command came to."""

    row: Row
    cost: Cost


Runs = Mapping[tuple[str, str], Sequence[Run]]  # (setting, method) -> by seed


def measure(subject: Subject) -> Found:
    """A row for each setting and method."""
    seeds = SEEDS.get(subject.name, (0,))
    runs = {
        (setting, name): [run(subject, setting, name, seed) for seed in seeds]
        for setting, name in cases(subject.only or tuple(SETTINGS))
    }
    rows = tuple(line(setting, name, runs) for setting, name in runs)
    reference = 100 * subject.baseline.rows[0].ap
    numbers = {"images": len(subject.inputs.images), "train": TRAIN_IMAGES}
    numbers["epochs"] = epochs_of(subject)
    how = tuple(text.format(reference=reference, **numbers) for text in HOW)
    table = Table("Eight bits and fewer", COLUMNS, rows)
    return Found(tuple(figures(subject, runs, reference)), (table,), how)


def cases(settings: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What is measured, settings in turn."""
    for setting in settings:
        for name, method in METHODS.items():
            if not method.settings or setting in method.settings:
                yield setting, name


def run(subject: Subject, setting: str, name: str, seed: int) -> Run:
    """One command in a folder of its own, or what it came to before."""
    method = METHODS[name]
    folder = folder_of(subject, setting, name, seed)
    epochs = epochs_of(subject)
    every, fewer = f"--epochs {epochs}", f"--epochs {epochs - 1}"
    flags = method.flags.format(all=every, fewer=fewer).split()
    if method.stage == "ptq":
        flags += SETTINGS[setting].split()
    else:
        flags += ["--epoch-images", str(TRAIN_IMAGES), *RATES.get(setting, "").split()]
    known = {"flags": flags, "weights": subject.inputs.model.sha256}
    file = folder / COST
    content = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    result = read_result(folder / f"{method.stage}.json")
    if result is None or content.get("known") != known:
        before = prepared(subject, setting, name, seed)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(before, folder, ignore=shutil.ignore_patterns(COST))
        spent = cost([method.stage, *subject.flags(folder), "--seed", str(seed), *flags])
        content = {"known": known, "cost": asdict(spent)}
        write_text(file, json.dumps(content) + "\n")
        result = read_result(folder / f"{method.stage}.json")
    assert result is not None
    return Run(result.rows[0], Cost(**content["cost"]))


def epochs_of(subject: Subject) -> int:
    """Epochs of QAT."""
    return EPOCHS.get(subject.name, 2)


def prepared(subject: Subject, setting: str, name: str, seed: int) -> Path:
    """The folder that a method starts from: with the baseline, statistics, or the model of PTQ."""
    against = METHODS[name].against
    if METHODS[name].stage == "qat":
        run(subject, setting, START, seed)
        return folder_of(subject, setting, START, seed)
    if against:
        run(subject, setting, against, seed)
        return folder_of(subject, setting, against, seed)
    folder = WORK / f"{subject.folder.name}-eight"
    baseline.run(replace(subject.config(BaselineConfig), name=folder.name))
    return folder


def folder_of(subject: Subject, setting: str, name: str, seed: int) -> Path:
    """Where the files of one run are."""
    words = f"{subject.folder.name} eight {setting} {name} {seed}".replace(",", "")
    return WORK / words.replace("'", "").replace(" ", "-")


def line(setting: str, name: str, runs: Runs) -> tuple[Any, ...]:
    """One row of the table."""
    found, over = runs[setting, name], METHODS[name].against
    ap, alike = [100 * r.row.ap for r in found], [r.row.fidelity for r in found]
    gains: tuple[Any, Any] = (None, None)
    if over:
        gain = [gain_of(runs, setting, name, figure) for figure in ("ap", "fidelity")]
        gains = spread([100 * g for g in gain[0]], "{:+.2f}"), spread(gain[1], "{:+.3f}")
    return (
        *(setting, name, str(len(found))),
        *(spread(ap, "{:.2f}"), gains[0], spread(alike, "{:.3f}"), gains[1], over or None),
        *(mean(r.cost.seconds for r in found), mean(r.cost.cpu for r in found)),
        max(r.cost.peak for r in found),
    )


def gain_of(runs: Runs, setting: str, name: str, figure: str) -> list[float]:
    """How much more of a figure a method has than the one that it is measured against, by seed."""
    over = runs[setting, METHODS[name].against]
    pairs = zip(runs[setting, name], over, strict=True)
    return [getattr(a.row, figure) - getattr(b.row, figure) for a, b in pairs]


def figures(subject: Subject, runs: Runs, reference: float) -> Iterator[Figure]:
    """The targets of what was measured."""
    real, drawn = subject.name == "coco-mini", subject.name == "synthetic"
    if ("W4A8", BLOCK) in runs:
        blocks = [r.row for r in runs["W4A8", BLOCK]]
        least = min(100 * row.ap for row in blocks)
        yield Figure("W4A8, PTQ, block: AP", least, "{:.2f}", low=24.0 if real else None)
        alike = min(row.fidelity for row in blocks)
        yield Figure("W4A8, PTQ, block: fidelity", alike, "{:.3f}", low=0.90 if drawn else None)
        lost = reference - min(100 * r.row.ap for r in runs["W4A8", QAT])
        yield Figure("W4A8, QAT: AP below FP32", lost, "{:.2f}", high=1.5 if drawn else None)
    if ("W4A4", CORRECTED) in runs:
        without = max(100 * r.row.ap for r in runs["W4A4", QAT])
        gain = min(100 * r.row.ap for r in runs["W4A4", CORRECTED]) - without
        yield Figure("W4A4: least AP with correction - largest without", gain, "{:+.2f}", low=0.0)
    if ("W8A8 head", START) in runs:
        alike = min(r.row.fidelity for r in runs["W8A8 head", START])
        low = 0.955 if real else None
        yield Figure("W8A8, head too, PTQ, gptq: fidelity", alike, "{:.3f}", low=low)
    if ("W8A8", START) in runs:
        gain = min(gain_of(runs, "W8A8", START, "fidelity"))
        yield Figure("W8A8, PTQ, gptq: least gain of fidelity", gain, "{:+.3f}")


if __name__ == "__main__":
    raise SystemExit(main("below_eight", measure, only=tuple(SETTINGS)))
