"""The distance that counts a teacher's boxes, against NumPy and the heads' own decoding."""

import numpy as np
import pytest
import torch

from yoloq.models.heads.anchor import AnchorHead
from yoloq.models.heads.dfl import DflHead
from yoloq.train.terms.box_distance import detection_distance

pytestmark = pytest.mark.usefixtures("one_thread")

ANCHORS = AnchorHead((8, 16), (((10.0, 14.0), (20.0, 9.0)), ((60.0, 40.0), (90.0, 80.0))), 3)
SIDES = DflHead((8, 16), 3, 4)
DISTANCES = DflHead((8, 16), 3, 1)
HEADS = {"anchors": (ANCHORS, 16), "sides": (SIDES, 19), "distances": (DISTANCES, 7)}


def maps(channels: int, seed: int, count: int = 2) -> torch.Tensor:
    raw = torch.randn(count, channels, 3, 4, generator=torch.Generator().manual_seed(seed)) * 2
    # distances of a head without bins are lengths
    return raw.abs() if channels == 7 else raw


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def divergence(ours, theirs):
    p, q = sigmoid(ours), sigmoid(theirs)
    return q * np.log(q / p) + (1 - q) * np.log((1 - q) / (1 - p))


def boxes(head, level, raw):
    """Every box (places, 4) xyxy of one image's map, in pixels, by the head's own decoding."""
    scored = raw.copy()
    wide = scored.reshape(-1, 5 + head.nc, *raw.shape[1:]) if head is ANCHORS else scored[None]
    first = 4 if head is ANCHORS else 4 * head.reg_max
    wide[:, first:] = -50.0
    wide[:, first] = 50.0
    if head is ANCHORS:
        wide[:, 5] = 50.0
    empty = [np.full((1, len(raw), 1, 1), -50.0, np.float32) for _ in head.strides]
    empty[level] = scored[None]
    [found] = head.decode(empty, 0.5)
    return found.boxes.astype(np.float64)


def overlap(a, b):
    low, high = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:])
    shared = np.clip(high - low, 0, None).prod(1)
    areas = [(box[:, 2:] - box[:, :2]).prod(1) for box in (a, b)]
    return shared / (sum(areas) - shared)


def expected(head, level, ours, theirs):
    """Of one image."""
    moved = 1 - overlap(boxes(head, level, ours), boxes(head, level, theirs))
    if head is ANCHORS:
        a, b = (raw.reshape(2, 8, *raw.shape[1:]).astype(np.float64) for raw in (ours, theirs))
        objectness = sigmoid(b[:, 4])
        scores = (divergence(a[:, 5:], b[:, 5:]).sum(1) * objectness).sum()
        scores += divergence(a[:, 4], b[:, 4]).sum()
        weights = (objectness * sigmoid(b[:, 5:].max(1))).ravel()
    else:
        a, b = (raw[4 * head.reg_max :].astype(np.float64) for raw in (ours, theirs))
        scores, weights = divergence(a, b).sum(), sigmoid(b.max(0)).ravel()
    return ((weights * moved).sum() + scores) / max(weights.sum(), 1)


@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize("name", HEADS)
def test_against_the_heads_own_boxes(name: str, level: int) -> None:
    head, channels = HEADS[name]
    ours, theirs = maps(channels, 0), maps(channels, 1)
    wanted = sum(
        expected(head, level, a, b) for a, b in zip(ours.numpy(), theirs.numpy(), strict=True)
    )
    found = detection_distance(head, level, ours, theirs)
    assert float(found) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("name", HEADS)
def test_equal_maps_have_no_distance_and_no_gradient(name: str) -> None:
    head, channels = HEADS[name]
    raw = maps(channels, 0).requires_grad_()
    distance = detection_distance(head, 0, raw, raw.detach())
    distance.backward()
    assert float(distance.detach()) == pytest.approx(0, abs=1e-5)
    # IoU has a kink where boxes are equal: its gradient is one-sided there
    scores = ~torch.from_numpy(head.box_channels(0))
    assert float(raw.grad[:, scores].abs().max()) < 1e-5


def test_what_the_teacher_takes_for_background_hardly_counts() -> None:
    theirs = maps(16, 1)
    theirs.view(2, 2, 8, 3, 4)[:, :, 4] = -12.0
    ours = theirs.clone()
    ours.view(2, 2, 8, 3, 4)[:, :, :4] += 3.0
    ours.view(2, 2, 8, 3, 4)[:, :, 5:] -= 3.0
    assert float(detection_distance(ANCHORS, 0, ours, theirs)) < 0.01
    theirs.view(2, 2, 8, 3, 4)[:, :, 4] = 6.0
    ours.view(2, 2, 8, 3, 4)[:, :, 4] = 6.0
    assert float(detection_distance(ANCHORS, 0, ours, theirs)) > 1


def test_gradient_goes_into_the_student_alone() -> None:
    ours, theirs = (maps(19, seed).requires_grad_() for seed in (0, 1))
    detection_distance(SIDES, 0, ours, theirs).backward()
    assert theirs.grad is None
    assert bool(ours.grad.isfinite().all()) and float(ours.grad.abs().max()) > 0
