"""The two passes of a sweep: all candidates by output SNR, then the worst of them in full."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from yoloq.base.files import temporary_folder
from yoloq.base.journal import Journal
from yoloq.base.say import progress
from yoloq.geometry.boxes import Letterbox
from yoloq.models.heads import Head
from yoloq.stages.sensitivity.candidates import Candidate
from yoloq.stages.sensitivity.frontier import Frontier
from yoloq.stages.sensitivity.scores import Scorer
from yoloq.stages.sensitivity.sweep import BoxesOf, Geometries, Maps, SwitchedNets, compare, find
from yoloq.stages.sensitivity.sweep_lines import Scored, Screened

Loader = Callable[[], Iterator[tuple[Tensor, tuple[Letterbox, ...]]]]
BASE = "base"  # its name in the journal


@dataclass(frozen=True)
class Passes:
    """What both passes share.

    `images` and `leading` load batches (N, 3, H, W) in 0..1 with their geometries: all images of
    the sweep (`count` of them), and its first ones. `memory` bounds the bytes of activations
    held, `folder` takes the others. `cached` False runs every candidate from the image on.
    """

    variants: SwitchedNets
    head: Head
    boxes_of: BoxesOf
    journal: Journal
    images: Loader
    leading: Loader
    count: int
    memory: int
    folder: Path
    cached: bool = True

    def screen(self, candidates: Sequence[Candidate], reference: Sequence[Maps]) -> None:
        """Journal how like each candidate's output is to the FP32 network's, on `leading`."""
        todo = self._todo(Screened, candidates)
        if not todo:
            return
        count = sum(len(maps[0]) for maps in reference)
        with (
            progress("sweep, first pass", (len(todo) + 1) * count) as advance,
            self._frontier(self.leading, todo[0], advance) as (frontier, _),
        ):
            for candidate in todo:
                maps = self._maps(frontier, candidate)
                like, apart = compare(maps, reference, self.head, advance)
                line = Screened(_name(candidate), like.snr, like.cosine, apart)
                self.journal.append(line)

    def score(
        self, candidates: Sequence[Candidate], scorer: Scorer, reference: Sequence[Maps]
    ) -> None:
        """Journal the full score of each candidate and of the base."""
        todo = self._todo(Scored, candidates)
        if not todo:
            return
        with (
            progress("sweep", (len(todo) + 1) * self.count) as advance,
            self._frontier(self.images, todo[0], advance) as (frontier, geometries),
        ):
            for candidate in todo:
                maps = self._maps(frontier, candidate)
                found, like = find(maps, geometries, self.boxes_of, reference, advance)
                line = scorer(found).line(_name(candidate), like.snr, like.cosine)
                self.journal.append(line)

    def _todo(
        self, part: type[Screened] | type[Scored], candidates: Sequence[Candidate]
    ) -> list[Candidate | None]:
        """What the journal does not have yet; the base, None, comes last.

        By then the blocks that it shares with the candidates have run.
        """
        everything = [*candidates, None]
        return [item for item in everything if not self.journal.find(part, _name(item))]

    def _maps(self, frontier: Frontier, candidate: Candidate | None) -> Iterator[Maps]:
        """The raw maps of a candidate or of the base, from as late a block as possible."""
        if self.cached and candidate:
            self.variants.move(frontier, candidate.block)
        return self.variants.maps(frontier, candidate)

    @contextmanager
    def _frontier(
        self, load: Loader, first: Candidate | None, advance: Callable[[int], None]
    ) -> Iterator[tuple[Frontier, Geometries]]:
        """The activations in front of the first candidate, and the geometries of all batches."""
        geometries: Geometries = []

        def images() -> Iterator[Tensor]:
            for batch, geometry in load():
                geometries.append(geometry)
                yield batch
                advance(len(batch))

        position = first.block if self.cached and first else 0
        with temporary_folder(self.folder, "activations") as folder:
            frontier = self.variants.frontier(images(), position, self.memory, folder)
            yield frontier, geometries


def _name(candidate: Candidate | None) -> str:
    return candidate.name if candidate else BASE
