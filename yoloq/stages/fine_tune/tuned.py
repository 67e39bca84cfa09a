"""What a fine-tuning starts from, as far as all of them have it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from yoloq.base.errors import DataError
from yoloq.base.say import warn
from yoloq.data.images import fault, image_size
from yoloq.data.loader import sample
from yoloq.data.truth import collect
from yoloq.models.load import LoadedModel
from yoloq.stages.fine_tune import TuneConfig
from yoloq.stages.run import Inputs
from yoloq.train.parallel import Processes
from yoloq.train.samples import Pictures
from yoloq.train.terms.distill import Distillation
from yoloq.train.terms.imitation import Imitation
from yoloq.train.terms.teacher import Teacher, common_blocks


@dataclass(frozen=True)
class Tuned:
    """Everything that training starts from.

    `inputs` have the images that can be read; `teacher` is the float model; `hashes` are of the
    files read, readable in a message. What a stage adds are its name, the network that is trained
    and the one before training.
    """

    inputs: Inputs
    config: TuneConfig
    processes: Processes
    teacher: LoadedModel
    key: str
    hashes: dict[str, str]

    stage = ""  # its name
    use = ""  # what an error calls it
    before = ""  # what an epoch 0 is called
    precision = "fp32"
    labels = False  # whether the loss needs them
    mosaic = 0.0  # probability of a mosaic of four pictures

    @property
    def device(self) -> torch.device:
        return self.processes.device

    @property
    def student(self) -> nn.Module:
        """The network that is trained, always the same one."""
        raise NotImplementedError

    @cached_property
    def asked(self) -> Teacher:
        """The teacher as all terms ask it."""
        return Teacher(self.teacher.net.to(self.device).requires_grad_(False))

    @property
    def untrained(self) -> nn.Module:
        """The network that training has to better."""
        raise NotImplementedError

    @cached_property
    def pictures(self) -> Pictures:
        """The images that are trained on."""
        files = train_files(self.inputs, self.config, self.use)
        return read_pictures(self.inputs, files, self.labels)

    @property
    def per_epoch(self) -> int:
        """How many of them an epoch has."""
        most = self.config.images_an_epoch(self.device.type)
        return min(len(self.pictures), most or len(self.pictures))


def imitation(setup: Tuned) -> Imitation:
    """Distance to the teacher's blocks, raw head and boxes."""
    config, teacher = setup.config, setup.asked
    distance = Distillation(
        setup.inputs.model.head,
        feature_weight=config.feature_weight,
        head_weight=config.head_weight,
        temperature=config.temperature,
        detection_weight=config.detection_weight,
        feature_focus=config.feature_focus,
    )
    blocks = common_blocks(setup.student, teacher.net) if config.feature_weight else []
    return Imitation(setup.student, teacher, blocks, distance)


def train_files(inputs: Inputs, config: TuneConfig, use: str) -> Sequence[Path]:
    """Images of train that are not in val; `use` is what an error says that it needs them.

    Raises:
        DataError: train is missing, empty, or has no image of its own.
    """
    files = inputs.dataset.train_alone(use)
    if not config.train_images:
        return list(files)
    return list(sample(files, config.train_images, config.seed))


def read_pictures(inputs: Inputs, files: Sequence[Path], labels: bool = False) -> Pictures:
    """The images that are trained on, with labels where the loss needs them.

    Raises:
        DataError: none can be read, or the labels do not fit the data set.
    """
    readable = [file for file in files if image_size(file) is not None]
    if not readable:
        raise DataError(f"{files[0]}: {fault(files[0])}; no image of `train` can be read")
    if len(readable) < len(files):
        (bad, *_) = [file for file in files if file not in set(readable)]
        warn(
            f"{len(files) - len(readable)} images of `train` cannot be read and are left out, "
            f"{bad} for one; mend or remove them"
        )
    truth, report = collect([], readable)
    if labels:
        truth, report = inputs.dataset.truth("train", readable)
        for line in report.lines():
            warn(f"{line}")
    return Pictures(readable, truth, inputs.imgsz)
