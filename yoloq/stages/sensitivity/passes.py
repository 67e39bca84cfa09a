"""The two passes of a sweep: all candidates by output SNR, then the worst of them in full."""

from collections.abc import Sequence
from dataclasses import dataclass

from yoloq.base.journal import Journal
from yoloq.base.ranks import by_all, in_turn
from yoloq.base.say import progress
from yoloq.stages.sensitivity.candidates import Candidate
from yoloq.stages.sensitivity.scores import ResampledScore, Scorer
from yoloq.stages.sensitivity.shared_walk import Walk
from yoloq.stages.sensitivity.sweep import all_compared
from yoloq.stages.sensitivity.sweep_lines import Scored, Screened

BASE = "base"  # its name in the journal


@dataclass(frozen=True)
class Passes:
    """Both passes; each process walks on its share of the images, the first one writes down."""

    walk: Walk
    journal: Journal

    def screen(self, candidates: Sequence[Candidate]) -> None:
        """Journal how like each candidate's output is to the FP32 network's."""
        todo = self._todo(Screened, candidates)
        if not todo:
            return
        images = len(self.walk.leading)
        with progress("sweep, first pass", (len(todo) + 1) * images) as advance:
            steps = by_all(self.walk.compared, todo, done=advance)
            for candidate, shares in zip(todo, steps, strict=True):
                head = self.walk.inputs.model.head
                like, apart = all_compared(in_turn(shares), head)
                line = Screened(_name(candidate), like.snr, like.cosine, apart)
                self.journal.append(line)

    def score(self, candidates: Sequence[Candidate], scorer: Scorer) -> None:
        """Journal the full score of each candidate and of the base."""
        todo = self._todo(Scored, candidates)
        if not todo:
            return
        images = len(self.walk.inputs.images)
        with progress("sweep", (len(todo) + 1) * images) as advance:
            steps = by_all(self.walk.scored, todo, scorer, done=advance)
            for candidate, shares in zip(todo, steps, strict=True):
                whole, like = ResampledScore.joined([score for score, _ in shares]), shares[0][1]
                self.journal.append(whole.line(_name(candidate), like.snr, like.cosine))

    def _todo(
        self, part: type[Screened] | type[Scored], candidates: Sequence[Candidate]
    ) -> list[Candidate | None]:
        """What the journal does not have yet; the base, None, comes last.

        By then the blocks that it shares with the candidates have run.
        """
        everything = [*candidates, None]
        return [item for item in everything if not self.journal.find(part, _name(item))]


def _name(candidate: Candidate | None) -> str:
    return candidate.name if candidate else BASE
