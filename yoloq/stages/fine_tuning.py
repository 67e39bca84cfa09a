"""The training inside `make qat`: state, batches, objective, and the figures of an epoch."""

import copy
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from typing import cast

import torch
from torch import nn

from ..coco_metrics import fidelity, score
from ..data.augment import Augment
from ..data.labels import collect, read_ground_truth
from ..data.loader import sample
from ..detections import Detections
from ..engines.base import ModelInfo
from ..engines.torch_eager import TorchPredictor
from ..environment import environment
from ..errors import DataError
from ..evaluate import detect
from ..models import LoadedModel
from ..quantized import QuantizedModel
from ..results import StageResult
from ..train.batch_norm import reestimate
from ..train.distill import Distillation
from ..train.ema import WeightAverage
from ..train.loop import Plan, fit
from ..train.losses import loss_for
from ..train.objective import Imitation, QatObjective
from ..train.optimizer import Schedule, make_optimizer
from ..train.parallel import Processes
from ..train.ranges import Mode, learned_steps
from ..train.samples import Pictures, Sizes, TrainBatch, batches, steps
from ..train.state import Epoch, RunState
from ..train.student import make_student
from ..train.teacher import common_blocks
from .inputs import NOT_INPUTS, Inputs, say
from .qat_config import QatConfig
from .rows import BASELINE

STATE, TABLE = "qat-state.pt", "qat.csv"
FIGURE = {"fidelity": "fidelity", "map": "map50_95"}  # column that decides, by --best


@dataclass(frozen=True)
class Tuning:
    """Everything that training starts from.

    `inputs` have the images that can be read; `calibrated` is what `ptq.pt` holds and `ptq` the
    stage's result; `unfused` is the network before fusing, where its batch norm is kept; `hashes`
    are of the files read.
    """

    inputs: Inputs
    config: QatConfig
    processes: Processes
    calibrated: QuantizedModel
    ptq: StageResult
    teacher: LoadedModel
    unfused: nn.Module | None
    key: str
    hashes: dict[str, str]

    @property
    def device(self) -> torch.device:
        return self.processes.device

    @cached_property
    def pictures(self) -> Pictures:
        """The images that are trained on."""
        return read_pictures(self.inputs, self.config)

    @cached_property
    def student(self) -> nn.Module:
        """The network that is trained."""
        ranges = cast(Mode, self.config.ranges)
        net = make_student(self.calibrated, ranges, self.unfused, self.config.only)
        return net.to(self.device)


def read_pictures(inputs: Inputs, config: QatConfig) -> Pictures:
    """Images of train that are not in val, with labels where the loss needs them.

    Raises:
        DataError: train is missing, empty, or has no image of its own.
    """
    val = set(inputs.dataset.images("val"))
    files = [file for file in inputs.dataset.images("train") if file not in val]
    if not files:
        raise DataError(f"{config.data}: `train` has no image that is not in `val`; QAT needs some")
    if config.train_images:
        files = list(sample(files, config.train_images, config.seed))
    if not config.needs_labels:
        return Pictures(files, collect([], files)[0], inputs.imgsz)
    truth, report = read_ground_truth(inputs.dataset, "train", files)
    for line in report.lines():
        say(f"warning: {line}")
    return Pictures(files, truth, inputs.imgsz)


def train(tuning: Tuning) -> RunState:
    """Fine-tune, or go on where an interrupted run was; the state holds the best epoch.

    Raises:
        UserError: an interrupted run had another configuration, or the training diverges.
    """
    config, state = tuning.config, start_state(tuning)
    plan = make_plan(tuning)
    objective = make_objective(tuning)
    if tuning.processes.first and "start" not in state.extra:
        figures = evaluate(tuning, tuning.calibrated.model.net)
        state.extra["start"] = {"epoch": 0, **figures}
        state.extra["best"] = {"epoch": 0, "value": figures[FIGURE[config.best]], "net": None}
        say(f"epoch 0 (PTQ)  {_text(figures)}")
    fit(
        state,
        objective,
        lambda epoch: epoch_batches(tuning, epoch),
        plan,
        lambda epoch: measure_epoch(tuning, state, epoch),
    )
    return state


def start_state(tuning: Tuning) -> RunState:
    """The run's state: fresh, or that of an interrupted run with the same settings."""
    config, net = tuning.config, tuning.student
    rate, decay = config.learning_rate, config.weight_decay
    optimizer = make_optimizer(
        net, config.optimizer, rate, decay, learned_steps(net), config.range_lr
    )
    state = RunState(
        config.folder / STATE,
        tuning.key,
        net,
        WeightAverage(net, config.average),
        optimizer,
        settings=settings(tuning),
        table=config.folder / TABLE,
        writes=tuning.processes.first,
    )
    if config.force:
        return state
    state.refuse_other_settings()
    if state.restore():
        say(f"{state.file}: going on after epoch {len(state.history)}")
    return state


def settings(tuning: Tuning) -> dict[str, str]:
    """What must not change while a run is interrupted, readable."""
    flags = {f"--{field.name.replace('_', '-')}": field.name for field in fields(tuning.config)}
    values = asdict(tuning.config)
    given = {
        flag: str(values[name])
        for flag, name in flags.items()
        if name not in (*NOT_INPUTS, "weights", "data")
    }
    versions = {name: str(version) for name, version in environment()["versions"].items()}
    own = {"imgsz": str(tuning.inputs.imgsz), "processes": str(tuning.processes.world)}
    return given | versions | own | tuning.hashes


def make_plan(tuning: Tuning) -> Plan:
    """What the loop needs to know, from the flags."""
    config = tuning.config
    return Plan(
        epochs=config.epochs,
        steps=steps(len(tuning.pictures), config.batch_size),
        learning_rate=config.learning_rate,
        schedule=Schedule(config.epochs, min(config.warmup, config.epochs / 2)),
        device=tuning.device,
        clip=config.clip,
        prepare=lambda net, epoch: net.eval(),  # a norm that cannot be folded keeps its statistics
    )


def make_objective(tuning: Tuning) -> QatObjective:
    """Distance to the teacher, the task's loss, or both."""
    config, head = tuning.config, tuning.inputs.model.head
    imitation = task = None
    if config.distils:
        teacher = tuning.teacher.net.to(tuning.device).requires_grad_(False)
        weights = (config.feature_weight, config.head_weight, config.temperature)
        blocks = common_blocks(tuning.student, teacher) if config.feature_weight else []
        imitation = Imitation(teacher, blocks, Distillation(head, *weights))
    if config.needs_labels:
        task = loss_for(head, tuning.inputs.imgsz, tuning.device)
    return QatObjective(tuning.student, tuning.processes, imitation, task, config.task_weight)


def epoch_batches(tuning: Tuning, epoch: int) -> Iterator[TrainBatch]:
    """The augmented batches of an epoch, at the size in use."""
    config, size = tuning.config, tuning.inputs.imgsz
    hue, saturation, value = config.hsv
    how = Augment(
        scale=config.scale,
        fliplr=config.fliplr,
        flipud=config.flipud,
        mosaic=config.mosaic,
        hue=hue,
        saturation=saturation,
        value=value,
    )
    sizes = Sizes(size, size, size)
    return batches(tuning.pictures, epoch, config.seed, config.batch_size, how, sizes, True)


def measure_epoch(tuning: Tuning, state: RunState, epoch: int) -> Epoch:
    """Figures of the averaged weights; keeps them where they are the best so far."""
    if not tuning.processes.first:
        return {}
    net = state.average.net
    if tuning.config.bn_reestimate:
        net = copy.deepcopy(net)
        reestimate(net, inputs_of(tuning, epoch))
    figures = evaluate(tuning, net)
    value = figures[FIGURE[tuning.config.best]]
    if value > state.extra["best"]["value"]:
        kept = {name: tensor.cpu().clone() for name, tensor in net.state_dict().items()}
        state.extra["best"] = {"epoch": epoch + 1, "value": value, "net": kept}
    return figures


def inputs_of(tuning: Tuning, epoch: int) -> Iterator[torch.Tensor]:
    """The first batches of an epoch as a network takes them."""
    for index, batch in enumerate(epoch_batches(tuning, epoch)):
        if index == tuning.config.bn_reestimate:
            return
        yield batch.images.to(tuning.device).float() / 255


def evaluate(tuning: Tuning, net: nn.Module) -> Epoch:
    """Fidelity and mAP of a quantized network on the first images of val."""
    inputs, config = tuning.inputs, tuning.config
    images = inputs.images[: config.val_images or None]
    inputs = replace(inputs, images=images)
    info = ModelInfo(inputs.model.head, inputs.model.names, inputs.imgsz)
    predictor = TorchPredictor(net, info, tuning.device, "int8")
    found = detect(
        predictor,
        images,
        imgsz=inputs.imgsz,
        batch_size=config.batch_size,
        workers=config.workers,
        progress=False,
    )
    baseline = Detections.load(config.folder / BASELINE).first(len(images))
    alike = fidelity(baseline, found, inputs.nc)
    ours = score(inputs.truth, found, inputs.nc)
    return {"fidelity": alike, "map50_95": ours.map50_95, "map50": ours.map50}


def _text(figures: Epoch) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
