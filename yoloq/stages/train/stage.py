"""Training: from random weights or a checkpoint to `train.pt`."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from yoloq.base.config import DEFAULT_IMGSZ
from yoloq.base.machine import has_fast_bfloat16, torch_device
from yoloq.base.result import Row, StageResult
from yoloq.base.say import say, warn
from yoloq.data.dataset import Dataset
from yoloq.data.loader import check_imgsz, sample
from yoloq.engines.predictor import ModelInfo
from yoloq.engines.torch import TorchPredictor
from yoloq.models.load import load_model, save_model
from yoloq.stages.end import command
from yoloq.stages.row import accuracy, describe, find
from yoloq.stages.run import Inputs, finished, open_dataset, report_labels
from yoloq.stages.train import TrainConfig
from yoloq.train.augment import Augment
from yoloq.train.ema import WeightAverage
from yoloq.train.label_loss import loss_for
from yoloq.train.loop import Plan, fit, supervised
from yoloq.train.optimizer import Schedule, make_optimizer
from yoloq.train.samples import Pictures, Sizes, TrainBatch, batches, steps
from yoloq.train.start import start_model
from yoloq.train.state import Epoch, RunState

WEIGHTS = "train.pt"
NOMINAL_BATCH = 64  # YOLOv5 states weight decay for this many images a step


def run(config: TrainConfig) -> StageResult:
    """Train, measure, and write `train.pt` and `train.json` into the run folder.

    A run that was interrupted goes on from its last whole epoch.

    Raises:
        UserError: an input cannot be used, or the training diverges.
    """
    began = time.perf_counter()
    dataset = open_dataset(config)
    torch.manual_seed(config.seed)
    model = start_model(config.weights, config.family, config.size, dataset.names)
    imgsz = check_imgsz(config.imgsz or dataset.imgsz or DEFAULT_IMGSZ, max(model.head.strides))
    images = dataset.images("val")[: config.limit or None]
    inputs = Inputs(config, model, dataset, imgsz, images)
    done = finished(config.folder, "train", inputs.key("train"), config.force)
    if done is not None:
        return done

    report_labels(inputs)
    history = train(inputs, config)
    row = measure(inputs, config.folder / WEIGHTS)
    result = inputs.result(
        "train",
        inputs.key("train"),
        [row],
        artifacts={"weights": WEIGHTS},
        seconds={
            "train": sum(epoch["seconds"] for epoch in history),
            "total": time.perf_counter() - began,
        },
        notes={"epochs": history},
    )
    result.write(config.folder / "train.json")
    say(f"{config.folder / WEIGHTS}: {describe(row)}")
    return result


def next_step(config: TrainConfig, found: StageResult) -> str:
    """Measure what was trained."""
    return command(replace(config, weights=str(config.folder / WEIGHTS)), "baseline")


def train(inputs: Inputs, config: TrainConfig) -> list[Epoch]:
    """Train the inputs' model, write `train.pt`; returns the table of epochs."""
    return train_on(read_pictures(inputs.dataset, inputs.imgsz), inputs, config)


def train_on(pictures: Pictures, inputs: Inputs, config: TrainConfig) -> list[Epoch]:
    """The same on pictures that are there already."""
    device = torch_device(config.device)
    state = start_state(config, inputs, device)
    plan = make_plan(config, len(pictures), device)
    history = fit(
        state,
        supervised(state.net, loss_for(inputs.model.head, inputs.imgsz, device), plan),
        lambda epoch: epoch_batches(config, pictures, epoch),
        plan,
    )
    net = half_convolutions(state.average.net.cpu())
    trained = replace(inputs.model, net=net, imgsz=inputs.imgsz)
    save_model(config.folder / WEIGHTS, trained, epochs=config.epochs)
    return history


def half_convolutions(net: nn.Module) -> nn.Module:
    """The network with convolution weights in float16, as published checkpoints store them.

    Biases and batch norm stay in float32: they are small, and a variance may not fit.
    """
    for parameter in net.parameters():
        if parameter.ndim > 1:
            parameter.data = parameter.data.half()
    return net


def measure(inputs: Inputs, weights: Path) -> Row:
    """mAP of the trained weights on val."""
    model = load_model(weights)
    info = ModelInfo(model.head, model.names, inputs.imgsz)
    device = torch_device(inputs.config.device)
    found = find(inputs, TorchPredictor(model.net, info, device, "fp32"))
    size = weights.stat().st_size
    return Row("FP32", "fp32", "torch", **accuracy(inputs, found, found), size_bytes=size)


def read_pictures(dataset: Dataset, imgsz: int, most: int = 0, seed: int = 0) -> Pictures:
    """The train split, or so many drawn from it; images that cannot be read are left out."""
    files = dataset.images("train")
    files = sample(files, most, seed) if most else files
    truth, report = dataset.truth("train", files)
    for line in report.lines():
        warn(f"{line}")
    if report.unreadable:
        files = tuple(file for file in files if file not in set(report.unreadable))
        truth, _ = dataset.truth("train", files)
    return Pictures(files, truth, imgsz)


def start_state(config: TrainConfig, inputs: Inputs, device: torch.device) -> RunState:
    """The run's state: fresh, or that of an interrupted run with the same settings and data."""
    net = inputs.model.net.to(device).requires_grad_(True)
    if use_amp(config, device):
        net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    decay = config.weight_decay * config.batch_size / NOMINAL_BATCH
    optimizer = make_optimizer(net, config.optimizer, config.lr, decay)
    file = config.folder / "train-state.pt"
    state = RunState(file, inputs.key("train"), net, WeightAverage(net), optimizer)
    if not config.force and state.restore():
        say(f"{state.file}: going on after epoch {len(state.history)}")
    return state


def epoch_batches(config: TrainConfig, pictures: Pictures, epoch: int) -> Iterator[TrainBatch]:
    """The batches of an epoch; the last epochs are free of mosaics and at the size in use."""
    settled = epoch >= config.epochs - config.settle
    low, high = (max(round(pictures.imgsz * share / 32), 1) * 32 for share in config.multi_scale)
    how = Augment(mosaic=0.0 if settled else config.mosaic)
    sizes = Sizes(pictures.imgsz, low, high)
    return batches(pictures, epoch, config.seed, config.batch_size, how, sizes, settled)


def make_plan(config: TrainConfig, pictures: int, device: torch.device) -> Plan:
    """What the loop needs to know, from the flags."""
    return Plan(
        epochs=config.epochs,
        steps=steps(pictures, config.batch_size),
        learning_rate=config.lr,
        schedule=Schedule(config.epochs, config.warmup, decay=config.decay),
        device=device,
        amp=use_amp(config, device),
    )


def use_amp(config: TrainConfig, device: torch.device) -> bool:
    """Whether to train in mixed precision; `auto`: where the hardware has bfloat16."""
    fast = device.type == "cuda" or has_fast_bfloat16()
    return config.amp == "on" or (config.amp == "auto" and fast)
