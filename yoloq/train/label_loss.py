"""Which loss trains which head: one row a head."""

from collections.abc import Callable
from typing import Any

import torch

from yoloq.base.errors import UserError
from yoloq.base.own_files import MAKE
from yoloq.models.heads import Head
from yoloq.train.loop import Loss
from yoloq.train.loss_classic import ClassicLoss
from yoloq.train.loss_ultralytics import UltralyticsLoss

LOSSES: dict[str, Callable[[Any, int, torch.device], Loss]] = {  # kind of head -> its loss
    "anchor": lambda head, imgsz, device: ClassicLoss(head, imgsz),
    "dfl": lambda head, imgsz, device: UltralyticsLoss(head, device),
}


def loss_for(head: Head, imgsz: int, device: torch.device) -> Loss:
    """The published loss of a head.

    Args:
        head: how the raw maps are read.
        imgsz: image size in pixels.
        device: where the raw maps will be.

    Raises:
        UserError: a head that no loss is known for.
    """
    if head.kind not in LOSSES:
        raise UserError(
            f"no loss is known for a head of kind {head.kind!r}; {MAKE} qat ARGS='--loss distill' "
            "needs none"
        )
    return LOSSES[head.kind](head, imgsz, device)
