"""`--correct`: the phase behind the training in which scales and biases alone are trained."""

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

from torch import nn

from yoloq.base.errors import PolicyError
from yoloq.base.say import say
from yoloq.quant.policy import Placement
from yoloq.quant.quantized import QuantizedModel
from yoloq.stages.qat import QatConfig
from yoloq.stages.qat.setup import QatSetup
from yoloq.stages.qat.trained import Phase
from yoloq.train.qat.correction import corrections, folded, make_corrected
from yoloq.train.qat.student import is_chosen
from yoloq.train.samples import Pictures
from yoloq.train.state import Epoch

ALONE: dict[str, Any] = {  # options of the training that have nothing to act on here
    "correct": 0,
    "schedule": "all",
    "ranges": "frozen",
    "bn": "fold",
    "bn_reestimate": 0,
    "dampen": 0.0,
    "freeze_oscillating": 0.0,
}


@dataclass(frozen=True)
class CorrectionSetup(QatSetup):
    """What the correction starts from: `calibrated` is the best model of the phase before."""

    after: Phase

    stage = "qat-correct"
    before = "not corrected"

    @cached_property
    def student(self) -> nn.Module:  # type: ignore[override]
        return make_corrected(self.calibrated, self.config.only).to(self.device)

    @property
    def pictures(self) -> Pictures:  # type: ignore[override]
        return self.after.setup.pictures

    @property
    def scales(self) -> tuple[list[nn.Parameter], float]:
        return corrections(self.student), self.config.correct_lr

    @property
    def behind(self) -> int:
        return self.after.setup.config.epochs

    @property
    def reached(self) -> Epoch:
        state = self.after.state
        row = next(row for row in state.rows() if row["epoch"] == self.after.best_epoch)
        return {name: row[name] for name in state.extra["start"]} | {"epoch": 0}

    def plain(self, net: nn.Module) -> QuantizedModel:
        return folded(net, self.calibrated)


def check_correctable(config: QatConfig, placement: Placement) -> None:
    """Find out before any training whether there is something to correct.

    Raises:
        PolicyError: `--only` names no quantized convolution.
    """
    plans = placement.layers.items()
    quantized = [name for name, plan in plans if plan.weight or plan.activation]
    if config.correct and not any(is_chosen(name, config.only) for name in quantized):
        raise PolicyError(
            f"--only {' '.join(config.only)}: names no quantized layer that --correct could "
            "correct; name others, or leave --correct out"
        )


def correction_of(phase: Phase) -> CorrectionSetup:
    """The setup of the correction behind a phase, from the best epoch that its state holds."""
    setup, state = phase.setup, phase.state
    with setup.processes.first_before_others():  # which epoch that is the first one knows
        if setup.processes.first:
            state.save()
        else:
            state.restore()
    say(f"qat: {setup.config.correct} epochs of scales and biases alone, the integers stay")
    same = {field.name: getattr(setup, field.name) for field in fields(QatSetup)}
    changed = {
        "config": replace(setup.config, epochs=setup.config.correct, **ALONE),
        "calibrated": phase.best_model(),
        "unfused": None,
        "order": (),
    }
    return CorrectionSetup(**same | changed, after=phase)
