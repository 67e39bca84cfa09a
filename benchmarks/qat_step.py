"""A step of QAT, teacher included, against an FP32 training step of the same batch."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import torch
from latency import spread
from record import SPREAD, Column, Figure, Found, Table
from subject import Subject, main
from torch import nn

from yoloq.base.machine import keep_freed_memory
from yoloq.models.load import load_model
from yoloq.stages.fine_tune.tuned import read_pictures, train_files
from yoloq.stages.qat import QatConfig
from yoloq.train.augment import Augment
from yoloq.train.ema import WeightAverage
from yoloq.train.label_loss import loss_for
from yoloq.train.loop import Health, Objective, Plan, supervised, take_step
from yoloq.train.optimizer import Schedule, make_optimizer
from yoloq.train.parallel import Processes
from yoloq.train.qat.ranges import Mode, forget
from yoloq.train.qat.student import make_student
from yoloq.train.samples import Sizes, TrainBatch, batches
from yoloq.train.state import RunState
from yoloq.train.terms.distill import Distillation
from yoloq.train.terms.imitation import Imitation
from yoloq.train.terms.objective import Term, TermSum
from yoloq.train.terms.task import TaskLoss
from yoloq.train.terms.teacher import Teacher, common_blocks

BATCH, REPETITIONS, RATE = 8, 9, 1e-9  # the rate leaves all steps alike
LIMIT = 1.6
CPU = torch.device("cpu")
FP32 = "FP32 training, batch norm in training mode"
QAT = "QAT, frozen ranges, distillation"
COLUMNS = (
    Column("Step"),
    Column("Seconds", "{:.3f}"),
    Column("Least to largest", SPREAD),
    Column("Against FP32 training", "{:.2f}"),
    Column("Least to largest", SPREAD),
)
HOW = (
    "One batch of {batch} augmented images at {imgsz} px on the CPU with {threads} threads: "
    "forward pass, loss, backward pass, clipping, AdamW and the averaged weights; loading the "
    "images is left out. Steps in turn, {repetitions} repetitions after one to warm up; ratios are "
    "taken within a repetition. FP32 training is the unfused network with the published loss."
)

Step = Callable[[], object]


def measure(subject: Subject) -> Found:
    """The ratio of a QAT step to an FP32 training step, with its target."""
    keep_freed_memory()
    with TemporaryDirectory() as folder:
        steps = make_steps(subject, Path(folder))
        for step in steps.values():
            step()
        repetitions = 2 if subject.limit else REPETITIONS
        rows = [{name: seconds(step) for name, step in steps.items()} for _ in range(repetitions)]
    ratios = {name: spread([row[name] / row[FP32] for row in rows]) for name in steps}
    table = [(name, *spread([row[name] for row in rows]), *ratios[name]) for name in steps]
    median, (low, most) = ratios[QAT]
    note = f"{low:.2f} to {most:.2f}"
    figure = Figure("QAT step / FP32 training step", median, "{:.2f}", high=LIMIT, note=note)
    how = HOW.format(
        batch=BATCH,
        imgsz=subject.inputs.imgsz,
        threads=torch.get_num_threads(),
        repetitions=repetitions,
    )
    return Found((figure,), (Table("A training step", COLUMNS, tuple(table)),), (how,))


def make_steps(subject: Subject, folder: Path) -> dict[str, Step]:
    """What is timed, by name; the first is the base."""
    batch = one_batch(subject)
    steps: dict[str, Step] = {FP32: float_step(subject, batch, folder)}
    for name, ranges, kept, teacher in (
        (QAT, "frozen", False, True),
        ("QAT, learned ranges, distillation", "learned", False, True),
        ("QAT, averaged ranges, distillation", "ema", False, True),
        ("QAT, batch norm kept, distillation", "frozen", True, True),
        ("QAT, frozen ranges, task loss, no teacher", "frozen", False, False),
    ):
        steps[name] = qat_step(subject, batch, folder, cast(Mode, ranges), kept, teacher)
    return steps


def one_batch(subject: Subject) -> TrainBatch:
    """The first batch of the first epoch."""
    inputs = subject.inputs
    config = subject.config(QatConfig, loss="task", train_images=BATCH)
    size = inputs.imgsz
    pictures = read_pictures(inputs, train_files(inputs, config, "QAT"), True)
    return next(batches(pictures, 0, 0, BATCH, Augment(), Sizes(size, size, size), True))


def float_step(subject: Subject, batch: TrainBatch, folder: Path) -> Step:
    """A step of training in FP32, with batch norm."""
    model = load_model(subject.weights, fuse=False)
    net = model.net.requires_grad_(True).train()
    loss = loss_for(model.head, subject.inputs.imgsz, CPU)
    return step_of(net, supervised(net, loss, plan()), batch, folder)


def qat_step(
    subject: Subject, batch: TrainBatch, folder: Path, ranges: Mode, kept: bool, teacher: bool
) -> Step:
    """A step of QAT from the default calibration."""
    source, inputs = subject.quantized(refine=()), subject.inputs
    unfused = load_model(subject.weights, fuse=False).net if kept else None
    net = make_student(source.quantized, ranges, unfused)
    term: Term
    if teacher:
        blocks = common_blocks(net, inputs.model.net)
        frozen = Teacher(inputs.model.net.requires_grad_(False))
        term = Imitation(net, frozen, blocks, Distillation(inputs.model.head))
    else:
        term = TaskLoss(loss_for(inputs.model.head, inputs.imgsz, CPU))
    objective = TermSum(net, Processes(0, 1, CPU), [term], partial(forget, net))
    return step_of(net, objective, batch, folder)


def step_of(net: nn.Module, objective: Objective, batch: TrainBatch, folder: Path) -> Step:
    """A step of the training loop."""
    optimizer = make_optimizer(net, "adamw", RATE, 0.0)
    state = RunState(folder / "state.pt", "", net, WeightAverage(net), optimizer)
    how = plan()
    return lambda: take_step(state, objective, batch, how, Health(how, "a step"))


def plan() -> Plan:
    """The loop's defaults."""
    return Plan(1, 1, RATE, Schedule(1), CPU)


def seconds(step: Step) -> float:
    """How long a step takes."""
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


if __name__ == "__main__":
    raise SystemExit(main("qat_step", measure))
