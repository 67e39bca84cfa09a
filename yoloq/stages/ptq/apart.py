"""Calibration beside a run: of a model that is no run folder's, without its cache."""

from pathlib import Path

from yoloq.base.machine import torch_device
from yoloq.quant.ptq import calibrate_model, collect_from_images
from yoloq.quant.quantized import QuantizedModel
from yoloq.quant.trace import sibling_groups
from yoloq.stages.ptq import PtqConfig
from yoloq.stages.ptq.stage import calibration_images, read_policy
from yoloq.stages.run import Inputs


def calibrated_apart(inputs: Inputs, config: PtqConfig) -> tuple[QuantizedModel, tuple[Path, ...]]:
    """The inputs' model as `make ptq` would place and calibrate it, on the CPU; and the images.

    Repairs are left to the caller.

    Raises:
        UserError: the policy or the images cannot be used.
    """
    model, ops = inputs.model, inputs.ops
    policy, placement = read_policy(config, inputs)
    chosen = calibration_images(inputs, config)
    model.net.to(torch_device(config.device))
    collected = collect_from_images(
        model,
        chosen,
        inputs.imgsz,
        groups=sibling_groups(ops),
        batch_size=config.batch_size,
        workers=config.workers,
        seed=config.seed,
        named=str(config.weights),
        calibrators={plan.calibrator or config.calibrator for plan in placement.layers.values()},
    )
    model.net.cpu()
    return calibrate_model(model, policy, collected, config.calibrator, ops, placement)[0], chosen
