"""Training: from random weights or a checkpoint to `train.pt`."""

import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..config import StageConfig, option, require
from ..data.augment import Augment
from ..data.dataset import Dataset, read_dataset
from ..data.labels import read_ground_truth
from ..errors import EngineError
from ..files import sha256_text, write_text
from ..models import LoadedModel, save_model
from ..train.ema import WeightAverage
from ..train.loop import Plan, fit, has_fast_bfloat16
from ..train.losses import loss_for
from ..train.optimizer import Schedule, make_optimizer
from ..train.samples import Pictures, Sizes, batches, steps
from ..train.start import SCRATCH, start_model
from ..train.state import RunState

NOMINAL_BATCH = 64  # YOLOv5 states weight decay for this many images a step


@dataclass(frozen=True)
class TrainConfig(StageConfig):
    """Train a detector on a data set."""

    weights: str = option("scratch", "checkpoint (.pt) to start from; scratch: random weights")
    family: str = option("yolov5", "network when from scratch", ("yolov5", "ultralytics"))
    size: str = option("n", "its size", ("n", "s", "m", "l", "x"))
    epochs: int = option(30, "passes over the train split")
    lr: float = option(2e-3, "largest learning rate")
    optimizer: str = option("adamw", "optimizer", ("adamw", "sgd"))
    weight_decay: float = option(0.01, "weight decay of convolution weights")
    warmup: float = option(1.0, "epochs in which the learning rate rises")
    decay: str = option("cosine", "course of the learning rate", ("cosine", "linear"))
    multi_scale: tuple[float, ...] = option((0.6, 1.1), "least and largest size, times imgsz")
    settle: int = option(4, "last epochs, which train at imgsz and without mosaic")
    mosaic: float = option(0.0, "probability of a mosaic of four pictures")
    amp: str = option("auto", "mixed precision (bfloat16)", ("auto", "on", "off"))

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.epochs >= 1, "--epochs", self.epochs, "1 or more")
        require(self.lr > 0, "--lr", self.lr, "above 0")
        require(0 <= self.mosaic <= 1, "--mosaic", self.mosaic, "between 0 and 1")
        low_high = len(self.multi_scale) == 2 and 0 < self.multi_scale[0] <= self.multi_scale[1]
        require(low_high, "--multi-scale", self.multi_scale, "two numbers, the smaller first")

    @property
    def folder(self) -> Path:
        """The run folder."""
        origin = Path(self.weights).stem
        if self.weights in SCRATCH:
            origin = f"{self.family}{self.size}"
        return Path(self.project) / (self.name or f"train-{origin}-{Path(self.data).stem}")


def run(config: TrainConfig) -> LoadedModel:
    """Train, and write `train.pt` and `train.json` into the run folder.

    A run that was interrupted goes on from its last whole epoch.

    Raises:
        UserError: an input cannot be used, or the training diverges.
    """
    began = time.perf_counter()
    dataset = read_dataset(config.data)
    imgsz = config.imgsz or dataset.imgsz or 640
    device = pick_device(config.device)
    torch.manual_seed(config.seed)
    model = start_model(config.weights, config.family, config.size, dataset.names)
    stride = max(model.head.strides)
    require(imgsz % stride == 0, "--imgsz", imgsz, f"a multiple of the stride, {stride}")
    pictures = read_pictures(dataset, imgsz)

    state = start_state(config, model, dataset, imgsz, device)
    history = fit(
        state,
        loss_for(model.head, imgsz, device),
        lambda epoch: batches(
            pictures, epoch, config.seed, config.batch_size, **epoch_settings(config, imgsz, epoch)
        ),
        make_plan(config, len(pictures), device),
    )
    trained = replace(model, net=state.average.net.cpu(), imgsz=imgsz)
    save_model(config.folder / "train.pt", trained, epochs=config.epochs)
    summary = {
        "schema": 1,
        "stage": "train",
        "config": asdict(config),
        "data": {"path": str(dataset.file), "sha256": dataset.sha256, "images": len(pictures)},
        "epochs": history,
        "artifacts": {"weights": "train.pt"},
        "seconds": {
            "train": sum(row["seconds"] for row in history),
            "total": time.perf_counter() - began,
        },
    }
    write_text(config.folder / "train.json", json.dumps(summary, indent=1))
    return trained


def read_pictures(dataset: Dataset, imgsz: int) -> Pictures:
    """The train split; images that cannot be read are left out and named."""
    files = dataset.images("train")
    truth, report = read_ground_truth(dataset, "train", files)
    for line in report.lines():
        print(f"warning: {line}")
    if report.unreadable:
        files = tuple(file for file in files if file not in set(report.unreadable))
        truth, _ = read_ground_truth(dataset, "train", files)
    return Pictures(files, truth, imgsz)


def start_state(
    config: TrainConfig, model: LoadedModel, dataset: Dataset, imgsz: int, device: torch.device
) -> RunState:
    """The run's state: fresh, or that of an interrupted run with the same settings and data."""
    net = model.net.to(device).requires_grad_(True)
    if use_amp(config, device):
        net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    settings = {**asdict(config), "imgsz": imgsz, "data": dataset.sha256}
    for name in ("device", "workers", "project", "name", "limit", "force"):
        settings.pop(name)
    state = RunState(
        config.folder / "train-state.pt",
        sha256_text(json.dumps(settings, sort_keys=True)),
        net,
        WeightAverage(net),
        make_optimizer(
            net,
            config.optimizer,
            config.lr,
            config.weight_decay * config.batch_size / NOMINAL_BATCH,
        ),
    )
    if not config.force and state.restore():
        print(f"{state.file}: going on after epoch {len(state.history)}")
    return state


def epoch_settings(config: TrainConfig, imgsz: int, epoch: int) -> dict[str, Any]:
    """Augmentation and picture sizes of an epoch; the last ones are as in use."""
    settled = epoch >= config.epochs - config.settle
    low, high = (max(round(imgsz * share / 32), 1) * 32 for share in config.multi_scale)
    how = Augment(mosaic=0.0 if settled else config.mosaic)
    return {"how": how, "sizes": Sizes(imgsz, low, high), "settled": settled}


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
    """Whether to train in mixed precision."""
    return config.amp == "on" or (config.amp == "auto" and has_fast_bfloat16(device))


def pick_device(name: str) -> torch.device:
    """The device of a flag.

    Raises:
        EngineError: the device is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name if not name.isdigit() else f"cuda:{name}")
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise EngineError(f"--device {name}: is not there; use cpu or auto") from error
    return device
