"""The loss of the ultralytics package (task-aligned assignment, CIoU, DFL) on raw maps."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from yoloq.base.errors import EngineError
from yoloq.models.heads.dfl import DflHead
from yoloq.models.ultralytics.package import import_ultralytics

BOX, CLASSES, DFL = 7.5, 0.5, 1.5  # the package's default gains


class UltralyticsLoss:
    """`v8DetectionLoss` of the package, fed with raw maps (N, 4 * reg_max + nc, H, W).

    Raises:
        EngineError: the installed package has another interface.
    """

    def __init__(self, head: DflHead, device: torch.device | None = None) -> None:
        import_ultralytics()
        try:
            from ultralytics.utils.loss import v8DetectionLoss

            self.loss: Any = v8DetectionLoss(_Described(head, device or torch.device("cpu")))
        except (ImportError, AttributeError) as error:
            raise EngineError(
                f"the installed ultralytics package does not fit ({error}); install >= 8.3"
            ) from error
        self.reg_max = head.reg_max

    def __call__(self, raws: Sequence[Tensor], targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss summed over the images of a batch, and its detached parts (means).

        Args:
            raws: per level (N, 4 * reg_max + nc, H, W) float32, boxes first.
            targets: (M, 6): image index in the batch, class, centre x, y, width, height in 0..1.
        """
        flat = torch.cat([raw.flatten(2) for raw in raws], 2)
        boxes, scores = flat.tensor_split([4 * self.reg_max], 1)
        batch = {"batch_idx": targets[:, 0], "cls": targets[:, 1], "bboxes": targets[:, 2:]}
        maps = {"boxes": boxes, "scores": scores, "feats": list(raws)}
        if hasattr(self.loss, "get_assigned_targets_and_loss"):
            _, parts, _ = self.loss.get_assigned_targets_and_loss(maps, batch)
            total = parts.sum() * len(flat)
        else:  # up to 8.3 the loss is one function of the raw maps
            total, parts = self.loss(maps["feats"], batch)
        return total.sum(), dict(zip(("box", "cls", "dfl"), parts.detach(), strict=True))


class _Described(nn.Module):
    """What the package's loss asks of a model: parameters, gains, and a head's description."""

    def __init__(self, head: DflHead, device: torch.device) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.zeros((), device=device))
        self.args = SimpleNamespace(box=BOX, cls=CLASSES, dfl=DFL)
        strides = torch.tensor(head.strides, dtype=torch.float32, device=device)
        self.model = [SimpleNamespace(stride=strides, nc=head.nc, reg_max=head.reg_max)]
