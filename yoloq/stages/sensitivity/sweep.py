"""Running the network once for each candidate, from the block where it differs."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from yoloq.geometry.boxes import Letterbox
from yoloq.geometry.detections import Detections
from yoloq.measure.compare import ErrorSum, LayerError
from yoloq.measure.evaluate import join
from yoloq.measure.places import PlaceError
from yoloq.models.heads import Head
from yoloq.models.heads.decode import Candidates
from yoloq.models.layered import IMAGE, LayeredNet, State
from yoloq.quant.policy import Placement
from yoloq.quant.switch import in_float
from yoloq.stages.sensitivity.candidates import Candidate
from yoloq.stages.sensitivity.frontier import Frontier

Maps = list[Tensor]
Geometries = list[tuple[Letterbox, ...]]
BoxesOf = Callable[[Sequence[NDArray[Any]], Sequence[Letterbox]], list[Candidates]]
OUTPUT = "raw maps"


@dataclass(frozen=True)
class SwitchedNets:
    """A calibrated network whose candidates are switched one after another.

    `leave-one-out`: all candidates are quantized but one. `one-at-a-time`: one alone is quantized.
    The base, without any switch, is then all quantized or all in float. In float a convolution has
    the weights of `reference`; None: those of `net`.
    """

    net: LayeredNet
    placement: Placement
    mode: str
    reference: nn.Module | None = None

    def floats(self, candidate: Candidate | None) -> frozenset[str]:
        """The convolutions in float when the candidate is switched; None: in the base."""
        base = (
            frozenset[str]() if self.mode == "leave-one-out" else frozenset(self.placement.layers)
        )
        return base if candidate is None else base ^ frozenset(candidate.layers)

    def _in_float(self, floats: frozenset[str]) -> AbstractContextManager[None]:
        return in_float(self.net, self.placement, floats, self.reference)

    def advance(self, state: State, start: int, stop: int, floats: frozenset[str]) -> State:
        """Run some blocks with these convolutions in float."""
        with torch.inference_mode(), self._in_float(floats):
            return self.net.advance(state, start, stop)

    def maps(self, frontier: Frontier, candidate: Candidate | None) -> Iterator[Maps]:
        """Raw maps of every batch, from the frontier on, with the candidate switched."""
        count = len(self.net.model)
        floats = self.floats(candidate)
        for state in frontier:
            yield self.advance(state, frontier.position, count, floats)[count - 1]

    def frontier(
        self, images: Iterable[Tensor], position: int, memory: int, folder: Path
    ) -> Frontier:
        """The base's activations in front of a block; `images` are (N, 3, H, W) floats in 0..1."""
        states = (self._ahead({IMAGE: x}, 0, position) for x in images)
        return Frontier(states, position, memory, folder)

    def move(self, frontier: Frontier, position: int) -> None:
        """Bring a frontier forward to a block."""
        start = frontier.position
        frontier.move(lambda state: self._ahead(state, start, position), position)

    def _ahead(self, state: State, start: int, position: int) -> State:
        """The base's state in front of a later block, with the raw maps that are made by then."""
        state = self.advance(state, start, position, self.floats(None))
        with torch.inference_mode(), self._in_float(self.floats(None)):
            return self.net.settled(state, position)


@dataclass(frozen=True)
class BatchFound:
    """Boxes of a batch, and how like its maps are to the FP32 network's; None: not compared."""

    boxes: list[Candidates]
    likeness: ErrorSum | None


def find(
    maps: Iterable[Maps],
    geometries: Geometries,
    boxes_of: BoxesOf,
    reference: Sequence[Maps],
    advance: Callable[[int], None],
) -> list[BatchFound]:
    """Boxes of raw maps, and how like the first maps are to those of the FP32 network.

    Args:
        maps: of every batch.
        geometries: of the images of every batch.
        boxes_of: finds the boxes in a batch's maps.
        reference: the FP32 network's maps of the leading batches.
        advance: is told of each image that is done.
    """
    found = []
    for index, (raws, geometry) in enumerate(zip(maps, geometries, strict=True)):
        likeness = None
        if index < len(reference):
            expected = reference[index]  # its last batch may be shorter
            likeness = _likeness(expected, [raw[: len(expected[0])] for raw in raws])
        found.append(BatchFound(boxes_of(_arrays(raws), geometry), likeness))
        advance(len(geometry))
    return found


def all_found(batches: Sequence[BatchFound]) -> tuple[Detections, LayerError]:
    """The boxes of all batches, in their order, and the likeness of those that were compared."""
    boxes = [item for batch in batches for item in batch.boxes]
    sums = ErrorSum(OUTPUT)
    for batch in batches:
        if batch.likeness is not None:
            sums.include(batch.likeness)
    return join(boxes, range(len(boxes)), len(boxes)), sums.error()


Likeness = tuple[ErrorSum, PlaceError]


def compare(
    maps: Iterable[Maps], reference: Sequence[Maps], head: Head, advance: Callable[[int], None]
) -> list[Likeness]:
    """How like raw maps are to the FP32 network's, and how far the boxes in them are off.

    Boxes are compared place by place (`PlaceError.power`): no NMS, no matching.
    """
    found = []
    for raws, expected in zip(maps, reference, strict=True):
        places = PlaceError(head)
        places.add(_arrays(expected), _arrays(raws))
        found.append((_likeness(expected, raws), places))
        advance(len(raws[0]))
    return found


def all_compared(batches: Sequence[Likeness], head: Head) -> tuple[LayerError, float]:
    """The figures of all batches, in their order."""
    sums, places = ErrorSum(OUTPUT), PlaceError(head)
    for likeness, apart in batches:
        sums.include(likeness)
        places.include(apart)
    return sums.error(), places.power


def _likeness(expected: Maps, raws: Maps) -> ErrorSum:
    sums = ErrorSum(OUTPUT)
    for reference, raw in zip(expected, raws, strict=True):
        sums.add(reference, raw)
    return sums


def _arrays(maps: Maps) -> list[NDArray[Any]]:
    return [raw.float().cpu().numpy() for raw in maps]
