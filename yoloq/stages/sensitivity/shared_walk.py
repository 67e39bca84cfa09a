"""The walk over the candidates on a process's share of the images, with activations of its own."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from yoloq.base.files import temporary_folder
from yoloq.base.machine import torch_device
from yoloq.base.ranks import WHOLE, Share, in_turn
from yoloq.data.loader import share_of_batches
from yoloq.geometry.boxes import Letterbox
from yoloq.measure.compare import LayerError
from yoloq.models.to_input import to_input
from yoloq.stages.run import Inputs
from yoloq.stages.sensitivity.candidates import Candidate
from yoloq.stages.sensitivity.frontier import Frontier
from yoloq.stages.sensitivity.scores import ResampledScore, Scorer
from yoloq.stages.sensitivity.sweep import (
    Geometries,
    Likeness,
    Maps,
    SwitchedNets,
    all_found,
    compare,
    find,
)


@dataclass(frozen=True)
class Walk:
    """What a process needs to run candidate after candidate.

    The first `screened` images are those of the first pass. `memory` bounds the bytes of
    activations held, the run folder takes the others. `cached` False runs every candidate from the
    image on.
    """

    variants: SwitchedNets
    inputs: Inputs
    screened: int
    memory: int
    cached: bool = True

    @property
    def leading(self) -> tuple[Path, ...]:
        """The images of the first pass."""
        return self.inputs.images[: self.screened]

    def compared(self, share: Share, todo: Sequence[Candidate | None]) -> Iterator[list[Likeness]]:
        """How like each candidate's output is to the FP32 network's, batch by batch."""
        reference = self._reference(share)
        with self._frontier(share, self.leading, todo[0]) as (frontier, _):
            for candidate in todo:
                maps = self._maps(frontier, candidate)
                yield compare(maps, reference, self.inputs.model.head, share.done)

    def scored(
        self, share: Share, todo: Sequence[Candidate | None], scorer: Scorer
    ) -> Iterator[tuple[ResampledScore, LayerError]]:
        """This process's part of each candidate's score, and how like its output is.

        The processes tell each other what they found: resamples take longer than that.
        """
        reference = self._reference(share)
        with self._frontier(share, self.inputs.images, todo[0]) as (frontier, geometries):
            for candidate in todo:
                maps = self._maps(frontier, candidate)
                own = find(maps, geometries, self.inputs.boxes_of, reference, share.done)
                found, like = all_found(in_turn(share.tell(own)))
                yield scorer(found, share), like

    def _reference(self, share: Share) -> list[Maps]:
        device = torch_device(self.inputs.config.device)
        return list(float_maps(self.inputs, self.leading, device, share))

    def _maps(self, frontier: Frontier, candidate: Candidate | None) -> Iterator[Maps]:
        """The raw maps of a candidate or of the base, from as late a block as possible."""
        if self.cached and candidate:
            self.variants.move(frontier, candidate.block)
        return self.variants.maps(frontier, candidate)

    @contextmanager
    def _frontier(
        self, share: Share, files: Sequence[Path], first: Candidate | None
    ) -> Iterator[tuple[Frontier, Geometries]]:
        """The activations in front of the first candidate, and the geometries of all batches."""
        geometries: Geometries = []
        device = torch_device(self.inputs.config.device)

        def images() -> Iterator[Tensor]:
            for batch, geometry in load(self.inputs, files, device, share):
                geometries.append(geometry)
                yield batch
                share.done(len(batch))

        position = first.block if self.cached and first else 0
        with temporary_folder(self.inputs.config.folder, "activations") as folder:
            frontier = self.variants.frontier(images(), position, self.memory, folder)
            yield frontier, geometries


def load(
    inputs: Inputs, images: Sequence[Path], device: torch.device, share: Share = WHOLE
) -> Iterator[tuple[Tensor, tuple[Letterbox, ...]]]:
    """A share of the batches as the network takes them, and their geometries."""
    size, config = inputs.imgsz, inputs.config
    for batch in share_of_batches(images, size, config.batch_size, config.workers, share=share):
        yield to_input(batch.images, device), batch.boxes


def float_maps(
    inputs: Inputs, images: Sequence[Path], device: torch.device, share: Share = WHOLE
) -> Iterator[Maps]:
    """Raw maps of the FP32 network, batch by batch."""
    net = inputs.model.net.to(device)
    for batch, _ in load(inputs, images, device, share):
        with torch.inference_mode():
            yield net(batch)
