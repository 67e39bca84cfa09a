"""What came out: latency and accuracy, the front, the table, the picture, the answer in words."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from yoloq.base.journal import Journal
from yoloq.measure.pareto import Spot, pareto
from yoloq.report.plots import draw_front
from yoloq.stages.nas.nas_lines import Clocked, Judged, Trained
from yoloq.stages.nas.network_space import Candidate
from yoloq.stages.search.front import knee
from yoloq.stages.sensitivity.scores import spearman

HEADER = (
    *("Network", "Bits", "Front", "ms", "Of WEIGHTS", "AP50-95", "Float", "MB", "M weights"),
    "synflow",
)


@dataclass(frozen=True)
class Outcome:
    """A candidate with all that is known of it; `ms` is in units of the median reference."""

    candidate: Candidate
    judged: Judged
    trained: Trained
    clocked: Clocked
    ms: float

    @property
    def share(self) -> float:
        """Its time over that of `--weights`."""
        return self.clocked.ms / self.clocked.reference_ms

    @property
    def spot(self) -> Spot:
        """Its place, by latency and by what is missing to an AP of 1."""
        return Spot(self.candidate.name, self.ms, 1 - self.judged.map50_95)

    @property
    def weight(self) -> Spot:
        """The same by megabytes of the file in the place of milliseconds."""
        return Spot(self.candidate.name, self.judged.size_bytes / 1e6, 1 - self.judged.map50_95)


class Outcomes:
    """All candidates that were measured, and which of them no other beats."""

    def __init__(self, candidates: Sequence[Candidate], journal: Journal) -> None:
        lines = [
            (
                each,
                journal.line(Judged, each.name),
                journal.line(Trained, each.architecture.name),
                journal.line(Clocked, each.architecture.name),
            )
            for each in candidates
        ]
        usual = median(clocked.reference_ms for *_, clocked in lines)
        self.all = [Outcome(*line, usual * line[3].ms / line[3].reference_ms) for line in lines]
        self.by_time = pareto([each.spot for each in self.all])
        self.by_size = pareto([each.weight for each in self.all])

    @property
    def front(self) -> list[Outcome]:
        """Those that no other is both as fast and as good as, the fastest first."""
        named = {each.candidate.name: each for each in self.all}
        return [named[spot.name] for spot in self.by_time]

    @property
    def answer(self) -> Outcome:
        """The knee of the front."""
        best = knee(self.by_time)
        return next(each for each in self.front if each.candidate.name == best.name)

    @property
    def agreement(self) -> float | None:
        """Rank correlation of synflow and float accuracy, over networks; None of fewer than 3."""
        networks = {each.trained.name: each.trained for each in self.all}.values()
        if len(networks) < 3:
            return None
        pairs = [(each.synflow, each.map50_95) for each in networks]
        return spearman([a for a, _ in pairs], [b for _, b in pairs])

    def where(self, outcome: Outcome) -> str:
        """Of which fronts it is."""
        name = outcome.candidate.name
        fronts = {"time": self.by_time, "size": self.by_size}
        return ", ".join(kind for kind, spots in fronts.items() if name in {s.name for s in spots})

    def rendered(self) -> list[list[str]]:
        """Header and cells of the table, the fastest first."""
        rows = [list(HEADER)]
        for each in sorted(self.all, key=lambda each: (each.ms, each.spot.loss)):
            answer = ", answer" if each is self.answer else ""
            rows.append(
                [
                    each.trained.name,
                    str(each.candidate.bits),
                    self.where(each) + answer,
                    f"{each.ms:.2f}",
                    f"{each.share:.2f}",
                    f"{100 * each.judged.map50_95:.2f}",
                    f"{100 * each.trained.map50_95:.2f}",
                    f"{each.judged.size_bytes / 1e6:.2f}",
                    f"{each.trained.parameters / 1e6:.2f}",
                    f"{each.trained.synflow:.1f}",
                ]
            )
        return rows

    def verdict(self, how: str) -> str:
        """The answer in one line; `how` says what the accuracy is of."""
        best = self.answer
        text = (
            f"{best.candidate.name}: {best.ms:.2f} ms in int8, {best.share:.2f} of the time of "
            f"WEIGHTS; AP50-95 {100 * best.judged.map50_95:.2f} {how}"
        )
        if self.agreement is None:
            return text
        return f"{text}; ranks of synflow and accuracy agree by {self.agreement:.2f}"

    def draw(self, file: Path) -> None:
        """Latency against what is missing to an AP of 100; the front a line, the answer ringed."""
        spots = [(each.spot.name, each.ms, 100 * each.spot.loss) for each in self.all]
        points = [(name, ms, loss, (loss, loss)) for name, ms, loss in spots]
        front = [(spot.ms, 100 * spot.loss) for spot in self.by_time]
        ylabel = "100 - AP50-95 in int8, after the short training"
        draw_front(file, points, front, (), self.answer.candidate.name, ylabel)
