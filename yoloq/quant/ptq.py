"""From a float model to a calibrated one: the steps of PTQ, in order."""

import copy
from collections.abc import Sequence
from dataclasses import replace

from yoloq.base.errors import PolicyError
from yoloq.models.load import LoadedModel
from yoloq.quant.calibrate import DeadChannels, calibrate
from yoloq.quant.calibrators import CALIBRATORS
from yoloq.quant.observer import Collected
from yoloq.quant.policy import Placement, Policy
from yoloq.quant.quantized import QuantizedModel, quantize_model
from yoloq.quant.trace import Op


def calibrate_model(
    model: LoadedModel,
    policy: Policy,
    collected: Collected,
    calibrator: str = "mse",
    ops: Sequence[Op] | None = None,
    placement: Placement | None = None,
) -> tuple[QuantizedModel, list[DeadChannels]]:
    """A quantized copy of a float model with ranges from statistics, and its dead channels.

    Args:
        collected: of a pass over calibration images.
        calibrator: a key of `CALIBRATORS`, for layers whose rule names none.
        ops, placement: of the network and the policy, where they are there already.

    Raises:
        PolicyError: a pattern of the policy matches no convolution, or the calibrator is not known.
    """
    if calibrator not in CALIBRATORS:
        raise PolicyError(f"calibrator {calibrator!r}: not one of {', '.join(CALIBRATORS)}")
    own = replace(model, net=copy.deepcopy(model.net))
    quantized = quantize_model(own, policy, ops, placement)
    dead = calibrate(own.net, quantized.placement, collected.inputs, calibrator)
    return replace(quantized, outputs=collected.outputs), dead
