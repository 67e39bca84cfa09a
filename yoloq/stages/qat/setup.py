"""Everything that QAT starts from, opened and checked."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import cast

import torch
from torch import nn

from yoloq.base.errors import DataError
from yoloq.base.result import StageResult
from yoloq.base.say import warn
from yoloq.data.images import fault, image_size
from yoloq.data.loader import sample
from yoloq.data.truth import collect
from yoloq.models.load import LoadedModel
from yoloq.quant.quantized import QuantizedModel
from yoloq.stages.qat import QatConfig
from yoloq.stages.run import Inputs
from yoloq.train.parallel import Processes
from yoloq.train.qat.ranges import Mode
from yoloq.train.qat.student import make_student
from yoloq.train.samples import Pictures


@dataclass(frozen=True)
class QatSetup:
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


def train_files(inputs: Inputs, config: QatConfig) -> list[Path]:
    """Images of train that are not in val.

    Raises:
        DataError: train is missing, empty, or has no image of its own.
    """
    files = inputs.dataset.train_alone("QAT")
    if not config.train_images:
        return list(files)
    return list(sample(files, config.train_images, config.seed))


def read_pictures(inputs: Inputs, config: QatConfig) -> Pictures:
    """The images that are trained on, with labels where the loss needs them.

    Raises:
        DataError: none can be read, or the labels do not fit the data set.
    """
    files = train_files(inputs, config)
    readable = [file for file in files if image_size(file) is not None]
    if not readable:
        raise DataError(f"{files[0]}: {fault(files[0])}; no image of `train` can be read")
    if len(readable) < len(files):
        (bad, *_) = [file for file in files if file not in set(readable)]
        warn(f"{len(files) - len(readable)} images of `train` cannot be read: {bad}")
    truth, report = collect([], readable)
    if config.needs_labels:
        truth, report = inputs.dataset.truth("train", readable)
        for line in report.lines():
            warn(f"{line}")
    return Pictures(readable, truth, inputs.imgsz)
