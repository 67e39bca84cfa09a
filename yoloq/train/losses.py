"""Which loss trains which head."""

import torch

from yoloq.models.heads import AnchorHead, DflHead, Head
from yoloq.train.loop import Loss


def loss_for(head: Head, imgsz: int, device: torch.device) -> Loss:
    """The published loss of a head.

    Args:
        head: how the raw maps are read.
        imgsz: image size in pixels.
        device: where the raw maps will be.

    Raises:
        TypeError: a head that no loss is known for.
    """
    if isinstance(head, AnchorHead):
        from yoloq.train.loss_classic import ClassicLoss

        return ClassicLoss(head, imgsz)
    if isinstance(head, DflHead):
        from yoloq.train.loss_ultralytics import UltralyticsLoss

        return UltralyticsLoss(head, device)
    raise TypeError(f"no loss for a head of type {type(head).__name__}")
