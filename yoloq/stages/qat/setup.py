"""Everything that QAT starts from."""

from dataclasses import dataclass
from functools import cached_property
from typing import cast

from torch import nn

from yoloq.base.result import StageResult
from yoloq.quant.quantized import QuantizedModel
from yoloq.stages.fine_tune.tuned import Tuned
from yoloq.stages.qat import QatConfig
from yoloq.stages.qat.order import Groups
from yoloq.train.qat.ranges import Mode, learned_steps
from yoloq.train.qat.student import make_student, settled
from yoloq.train.state import Epoch


@dataclass(frozen=True)
class QatSetup(Tuned):
    """Everything that training starts from.

    `calibrated` is what `ptq.pt` holds and `ptq` the stage's result; `unfused` is the network
    before fusing, where its batch norm is kept; `order` has the layers that join, in turn.
    """

    config: QatConfig
    calibrated: QuantizedModel
    ptq: StageResult
    unfused: nn.Module | None
    order: Groups

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
    def scales(self) -> tuple[list[nn.Parameter], float]:
        """Parameters of the student with a rate of their own, and that rate against `--lr`."""
        return learned_steps(self.student), self.config.range_lr

    @property
    def reached(self) -> Epoch | None:
        """Figures of `calibrated` as an epoch 0, where they are known."""
        return None

    @property
    def behind(self) -> int:
        """Epochs of training before these."""
        return 0

    def plain(self, net: nn.Module) -> QuantizedModel:
        """The quantized model in the form of `ptq.pt` of a student, once it is trained."""
        return settled(net, self.calibrated)

    @property
    def untrained(self) -> nn.Module:
        return self.calibrated.model.net

    @property
    def labels(self) -> bool:  # type: ignore[override]
        return self.config.needs_labels

    @property
    def mosaic(self) -> float:  # type: ignore[override]
        return self.config.mosaic
