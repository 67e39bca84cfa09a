"""Everything that QAT starts from."""

from dataclasses import dataclass
from functools import cached_property
from typing import cast

from torch import nn

from yoloq.base.result import StageResult
from yoloq.quant.quantized import QuantizedModel
from yoloq.stages.fine_tune.tuned import Tuned
from yoloq.stages.qat import QatConfig
from yoloq.train.qat.ranges import Mode
from yoloq.train.qat.student import make_student


@dataclass(frozen=True)
class QatSetup(Tuned):
    """Everything that training starts from.

    `calibrated` is what `ptq.pt` holds and `ptq` the stage's result; `unfused` is the network
    before fusing, where its batch norm is kept.
    """

    config: QatConfig
    calibrated: QuantizedModel
    ptq: StageResult
    unfused: nn.Module | None

    stage = "qat"
    use = "QAT"
    before = "PTQ"
    precision = "int8"

    @cached_property
    def student(self) -> nn.Module:  # type: ignore[override]
        ranges = cast(Mode, self.config.ranges)
        net = make_student(self.calibrated, ranges, self.unfused, self.config.only)
        return net.to(self.device)

    @property
    def untrained(self) -> nn.Module:
        return self.calibrated.model.net

    @property
    def labels(self) -> bool:  # type: ignore[override]
        return self.config.needs_labels

    @property
    def mosaic(self) -> float:  # type: ignore[override]
        return self.config.mosaic
