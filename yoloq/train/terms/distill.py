"""Distillation without labels: block outputs and the raw head of a float teacher."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from yoloq.models.heads import Head
from yoloq.train.terms.box_distance import detection_distance
from yoloq.train.terms.focus import score_map, weights_at

LEAST = torch.finfo(torch.float32).tiny  # of a teacher's energy: a map of zeros divides nothing


class Taps:
    """Collects the outputs of named modules in each forward pass until they are taken.

    As a context manager it takes its hooks off the network at the end, whatever happened.
    """

    def __init__(self, net: nn.Module, names: Iterable[str]) -> None:
        self.outputs: dict[str, Tensor] = {}
        self.handles = [
            net.get_submodule(name).register_forward_hook(
                lambda module, args, output, name=name: self.outputs.__setitem__(name, output)
            )
            for name in names
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Take the hooks off, and let go of what was collected."""
        for handle in self.handles:
            handle.remove()
        self.outputs = {}

    def take(self) -> dict[str, Tensor]:
        """Outputs of the last pass by module name, in the order of the pass."""
        taken, self.outputs = self.outputs, {}
        return taken


class _RelativeError(torch.autograd.Function):
    """Sum over images of |ours - theirs|^2 / |theirs|^2, in few passes over memory."""

    @staticmethod
    def forward(ctx: Any, ours: Tensor, theirs: Tensor) -> Tensor:
        dims = tuple(range(1, ours.ndim))
        energy = torch.linalg.vector_norm(theirs, dim=dims).square_().clamp_(min=LEAST)
        difference = ours - theirs
        ctx.save_for_backward(difference, energy)
        return (torch.linalg.vector_norm(difference, dim=dims).square_() / energy).sum()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        difference, energy = ctx.saved_tensors
        factors = (2 * gradient / energy).view(-1, *[1] * (difference.ndim - 1))
        return difference * factors, None


def relative_error(ours: Tensor, theirs: Tensor) -> Tensor:
    """Squared error over the teacher's energy, summed over images (N, ...): 0 when equal.

    Each image and tensor has its own normalisation, so that neither a loud map nor a loud image
    outweighs the others, and a batch may be split over processes.
    """
    result: Tensor = _RelativeError.apply(ours, theirs)
    return result


@dataclass(frozen=True)
class Distillation:
    """How far a student is from its teacher.

    `temperature` 0 compares the raw head's logits; above 0 it compares probabilities of scores and
    boxes' distributions softened by it (Hinton et al. 2015, arXiv 1503.02531), which weights sure
    background less. `detection_weight` is of the part that only counts the teacher's boxes.
    `feature_focus` is the share of the places of blocks' outputs that its scores distribute.
    """

    head: Head
    feature_weight: float = 1.0
    head_weight: float = 1.0
    temperature: float = 0.0
    detection_weight: float = 1.0
    feature_focus: float = 0.0

    def __call__(
        self,
        ours: Mapping[str, Tensor],
        theirs: Mapping[str, Tensor],
        raws: Sequence[Tensor],
        teacher_raws: Sequence[Tensor],
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss summed over the images of a batch, and its detached parts (means).

        Args:
            ours, theirs: block outputs (N, C, H, W) by name.
            raws, teacher_raws: raw maps (N, C, H, W) a level.
        """
        count = len(raws[0])
        parts: dict[str, Tensor] = {}
        if ours:
            errors = self._features(ours, theirs, teacher_raws)
            parts["features"] = self.feature_weight * torch.stack(errors).mean()
        levels = [self._level(*pair) for pair in zip(raws, teacher_raws, strict=True)]
        parts["head"] = self.head_weight * torch.stack(levels).mean()
        if self.detection_weight:
            pairs = enumerate(zip(raws, teacher_raws, strict=True))
            found = [detection_distance(self.head, level, *pair) for level, pair in pairs]
            parts["detections"] = self.detection_weight * torch.stack(found).mean()
        total = torch.stack(list(parts.values())).sum()
        return total, {name: part.detach() / count for name, part in parts.items()}

    def _features(
        self,
        ours: Mapping[str, Tensor],
        theirs: Mapping[str, Tensor],
        teacher_raws: Sequence[Tensor],
    ) -> list[Tensor]:
        """Relative errors of blocks' outputs, summed over images."""
        pairs = [(ours[name], theirs[name]) for name in ours]
        if not self.feature_focus:
            return [relative_error(*pair) for pair in pairs]
        scores = score_map(self.head, teacher_raws)
        errors = []
        for own, wanted in pairs:
            height, width = own.shape[2:]
            roots = weights_at(scores, height, width, self.feature_focus).sqrt()
            errors.append(relative_error(own * roots, wanted * roots))
        return errors

    def _level(self, ours: Tensor, theirs: Tensor) -> Tensor:
        if not self.temperature:
            return relative_error(ours, theirs)
        (boxes, scores), (wanted, likely) = (self.head.split(raw) for raw in (ours, theirs))
        if not self.head.distributions:
            return relative_error(boxes, wanted) + self._scores(scores, likely)
        student, teacher = ((x / self.temperature).log_softmax(2) for x in (boxes, wanted))
        divergence = F.kl_div(student, teacher, reduction="sum", log_target=True)
        error = divergence * self.temperature**2 / boxes[0, :, 0].numel()
        return error + self._scores(scores, likely)

    def _scores(self, ours: Tensor, theirs: Tensor) -> Tensor:
        """Divergence of score probabilities over the teacher's own share of positives."""
        ours, theirs = ours / self.temperature, theirs / self.temperature
        wanted = theirs.sigmoid()
        divergence = F.binary_cross_entropy_with_logits(ours, wanted, reduction="none")
        divergence = divergence - F.binary_cross_entropy_with_logits(
            theirs, wanted, reduction="none"
        )
        dims = tuple(range(1, ours.ndim))
        certain = wanted.sum(dims).clamp(min=1)
        return (divergence.sum(dims) / certain).sum() * self.temperature**2
