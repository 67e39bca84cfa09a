"""Where a teacher sees objects: weights of places, for distances between feature maps.

Nearly all places of a block's output are background. Weights by the teacher's scores let those
count that a box comes from (the masks of imitation of Wang et al. 2019, arXiv 1906.03609, made
from anchors and labels there, are scores here and need none).
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from yoloq.models.heads import Head


def score_map(head: Head, raws: Sequence[Tensor]) -> Tensor:
    """The best score at each place over all levels, 0..1, at the finest level: (N, 1, H, W).

    It is that of an object where the head has one, else of the best class.

    Args:
        raws: raw maps (N, C, H, W), a level each.
    """
    levels = [_best(head, raw.float()) for raw in raws]
    finest = max(level.shape[2:] for level in levels)
    resized = [F.interpolate(level, finest, mode="nearest") for level in levels]
    return torch.stack(resized).amax(0)


def _best(head: Head, raw: Tensor) -> Tensor:
    objects = head.objectness(raw)
    logits = head.split(raw)[1] if objects is None else objects
    return logits.amax(1, keepdim=True).sigmoid()


def weights_at(scores: Tensor, height: int, width: int, share: float) -> Tensor:
    """Weights of the places of a feature map (N, 1, height, width), of mean 1.

    An even part of 1 - `share`, and `share` distributed by the scores, of which there are 1 at
    least: in an image without objects all places count little alike.

    Args:
        scores: of `score_map`.
        share: 0 (all places alike) to 1 (by score alone).
    """
    here = F.adaptive_max_pool2d(scores, (height, width))
    total = here.sum((2, 3), keepdim=True).clamp(min=1)
    return 1 - share + share * height * width * here / total
