"""What `yoloq.calibrate` does: PTQ of a model and images in memory, without a run folder."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from yoloq.base.errors import PolicyError
from yoloq.data.loader import sample
from yoloq.engines.predictor import ModelInfo
from yoloq.models.load import LoadedModel
from yoloq.quant.moved import moves_of
from yoloq.quant.moved.float_twin import as_moved, check_movable, moved
from yoloq.quant.policy import Policy, resolve
from yoloq.quant.ptq import calibrate_model, collect_from_images
from yoloq.quant.quantized import QuantizedModel
from yoloq.quant.refine import check_images, read_repairs
from yoloq.quant.refine.apply import batches_of, refine
from yoloq.quant.trace import sibling_groups, trace
from yoloq.stages.ptq import PtqConfig
from yoloq.stages.ptq.stage import policy_of_flags


def quantized_in_memory(
    model: LoadedModel,
    images: Sequence[Path],
    policy: Policy | None,
    usual: PtqConfig,
    imgsz: int,
) -> QuantizedModel:
    """The int8 model.

    Args:
        images: to draw `usual.images` from.
        policy: None: that of the flags in `usual`.
        usual: whose calibrator, repairs and numbers are taken.
        imgsz: 0: that of the checkpoint, else 640.

    Raises:
        UserError: the images, the policy, the calibrator or a repair cannot be used.
    """
    files = sample(images, usual.images, usual.seed)
    check_images(usual.refine, min(len(files), usual.refine_images))
    size, ops, moves = ModelInfo.of(model, imgsz).imgsz, trace(model.net), moves_of(usual.refine)
    check_movable(moves, model.net, ops)
    batches: tuple[Tensor, ...] = ()
    if usual.refine:
        batches = tuple(batches_of(files[: usual.refine_images], size, torch.device("cpu")))
    factors = moved(model, moves, batches, ops) if moves else {}
    model = as_moved(model, factors, ops) if factors else model
    policy = policy or policy_of_flags(usual, model)
    placement = resolve(policy, ops)
    collected = collect_from_images(
        model,
        files,
        size,
        groups=sibling_groups(ops),
        batch_size=usual.batch_size,
        calibrators={plan.calibrator or usual.calibrator for plan in placement.layers.values()},
    )
    made = calibrate_model(model, policy, collected, usual.calibrator, ops, placement)[0]
    refine(model, made, batches, usual.refine, steps=usual.refine_steps, seed=usual.seed)
    return replace(made, moved=factors)


def repairs_of(text: str, usual: tuple[str, ...]) -> tuple[str, ...]:
    """Those that a text names; empty: the usual ones.

    Raises:
        PolicyError: there is none of a name.
    """
    try:
        return read_repairs(text) if text else usual
    except ValueError as error:
        raise PolicyError(f"refine {text!r}: {error}") from None
