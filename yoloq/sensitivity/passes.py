"""The two passes of a sweep: all candidates by output SNR, then the worst of them in full."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import Tensor

from ..boxes import Letterbox
from ..diagnosis.compare import LayerError
from ..models.heads import Head
from ..progress import progress
from .candidates import Candidate
from .frontier import Frontier
from .journal import Journal, Line
from .scores import Score, Scorer, gain
from .sweep import Geometries, Maps, Variants, compare, find

Loader = Callable[[], Iterator[tuple[Tensor, tuple[Letterbox, ...]]]]
BASE = ""  # name of the base in the journal


@dataclass(frozen=True)
class Passes:
    """What both passes share.

    `images` and `leading` load batches (N, 3, H, W) in 0..1 with their geometries: all images of
    the sweep (`count` of them), and its first ones. `memory` bounds the bytes of activations
    held, `folder` takes the others. `cached` False runs every candidate from the image on.
    """

    variants: Variants
    head: Head
    journal: Journal
    images: Loader
    leading: Loader
    count: int
    memory: int
    folder: Path
    cached: bool = True

    def screen(self, candidates: Sequence[Candidate], reference: Sequence[Maps]) -> None:
        """Journal each candidate's likeness to the FP32 network's raw maps on the first images."""
        todo = [c for c in candidates if not self.journal.find("screen", c.name)]
        if not todo:
            return
        count = sum(len(maps[0]) for maps in reference)
        with (
            progress("sweep, first pass", (len(todo) + 2) * count) as advance,
            self._frontier(self.leading, todo[0], advance) as (frontier, _),
        ):
            base = compare(self.variants.maps(frontier, None), reference, advance)
            for candidate in todo:
                self._move(frontier, candidate)
                like = compare(self.variants.maps(frontier, candidate), reference, advance)
                self.journal.append(
                    {
                        "part": "screen",
                        "name": candidate.name,
                        "snr": like.snr,
                        "cosine": like.cosine,
                        "snr_gain": self._snr_gain(base, like),
                    }
                )

    def score(
        self, candidates: Sequence[Candidate], scorer: Scorer, reference: Sequence[Maps]
    ) -> None:
        """Journal the full score of the base and of each candidate."""
        todo = [c for c in candidates if not self.journal.find("score", c.name)]
        if not todo:
            return
        with (
            progress("sweep", (len(todo) + 2) * self.count) as advance,
            self._frontier(self.images, todo[0], advance) as (frontier, geometries),
        ):

            def scored(candidate: Candidate | None) -> tuple[Score, LayerError]:
                maps = self.variants.maps(frontier, candidate)
                found, like = find(maps, geometries, self.head, reference, advance)
                return scorer(found), like

            base, base_like = scored(None)
            if not self.journal.find("score", BASE):
                self.journal.append(_line(BASE, base, base_like))
            for candidate in todo:
                self._move(frontier, candidate)
                score, like = scored(candidate)
                better, worse = (score, base) if self._leaves_out else (base, score)
                line = _line(candidate.name, score, like) | {
                    "gain": asdict(gain(worse, better)),
                    "snr_gain": self._snr_gain(base_like, like),
                }
                self.journal.append(line)

    @property
    def _leaves_out(self) -> bool:
        return self.variants.mode == "leave-one-out"

    def _snr_gain(self, base: LayerError, variant: LayerError) -> float:
        """What keeping the layer in float gains, in dB; against no error at all, minus the SNR."""
        return variant.snr - base.snr if self._leaves_out else -variant.snr

    @contextmanager
    def _frontier(
        self, load: Loader, first: Candidate, advance: Callable[[int], None]
    ) -> Iterator[tuple[Frontier, Geometries]]:
        """The activations in front of the first candidate, and the geometries of all batches."""
        geometries: Geometries = []

        def images() -> Iterator[Tensor]:
            for batch, geometry in load():
                geometries.append(geometry)
                yield batch
                advance(len(batch))

        position = first.block if self.cached else 0
        with TemporaryDirectory(prefix=".activations-", dir=self.folder) as folder:
            frontier = self.variants.frontier(images(), position, self.memory, Path(folder))
            yield frontier, geometries

    def _move(self, frontier: Frontier, candidate: Candidate) -> None:
        if self.cached:
            self.variants.move(frontier, candidate.block)


def _line(name: str, score: Score, like: LayerError) -> Line:
    """A score as a line of the journal."""
    return {
        "part": "score",
        "name": name,
        "fidelity": float(score.fidelity[0]),
        "map50_95": float(score.map50_95[0]),
        "map50": score.map50,
        "snr": like.snr,
        "cosine": like.cosine,
    }
