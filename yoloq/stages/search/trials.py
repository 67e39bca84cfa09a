"""Trials: engines built, run on the images and timed in turn with the float one; and which next."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from statistics import median

import numpy as np

from yoloq.base.files import temporary_folder
from yoloq.base.say import say
from yoloq.engines.base import engine_files
from yoloq.engines.predictor import Predictor
from yoloq.engines.source import Source
from yoloq.measure.latency import measure_predictors
from yoloq.measure.pareto import Spot, pareto
from yoloq.stages.row import find
from yoloq.stages.search.front import answer
from yoloq.stages.search.predict import Forecast, LossOfNoise, fit
from yoloq.stages.search.screen import Workshop
from yoloq.stages.search.space import Point, Space
from yoloq.stages.search.trial_lines import Tested
from yoloq.stages.sensitivity.run_sweep import scorer

WARMUP = 5  # runs that are not counted
Images = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]


@dataclass
class Trials:
    """Measures points, each once, and knows what came out.

    Attributes:
        floats: float precisions of the engine, FP32 first; they are points of the front as well.
        points: the placements that were measured, by name.
        kept: folder of the float engines, which are built once.
        took: seconds of each placement of this run, its repair included; an earlier run may have
            left others.
    """

    shop: Workshop
    space: Space
    forecast: Forecast
    floats: Sequence[str]
    kept: Path
    points: dict[str, Point] = field(default_factory=dict)
    loaded: dict[str, Predictor] = field(default_factory=dict)
    took: list[float] = field(default_factory=list)

    def float_engines(self) -> None:
        """Measure the engine's float precisions."""
        source = self.shop.source(self.shop.quantized(self.space, self.space.default))
        for precision in self.floats:
            if not self.shop.journal.find(Tested, precision):
                self._test(precision, source, precision, (None, None))

    def test(self, point: Point) -> Tested:
        """What a placement comes to, measured now or before."""
        self.points[point.name] = point
        known = self.shop.journal.find(Tested, point.name)
        if known:
            return known
        began = time.perf_counter()
        quantized = self.shop.repaired(self.shop.quantized(self.space, point))
        source = self.shop.source(quantized)
        line = self._test(point.name, source, "int8", self.predicted(point))
        self.took.append(time.perf_counter() - began)
        say(self.left())
        return line

    def predicted(self, point: Point) -> tuple[float, float | None]:
        """Time over the float engine's and loss of fidelity that are expected of a placement."""
        loss = self.loss_of_noise()
        share = self.forecast.ms_of(point) / self.forecast.latency[1]
        return share, None if loss is None else loss(self.noise_of(point))

    def noise_of(self, point: Point) -> float:
        """The noise that is expected at its output."""
        return self.forecast.noise_of(point, self.calibrators(point))

    def calibrators(self, point: Point) -> Mapping[str, str]:
        """That of each block."""
        if point.mixed:
            return self.space.calibrators[point.symmetric]
        return dict.fromkeys(self.space.blocks, self.space.first)

    def loss_of_noise(self) -> LossOfNoise | None:
        """Through what was measured; residual additions make noise that is not forecast."""
        lines = [(self.shop.journal.find(Tested, n), p) for n, p in self.points.items()]
        return fit(
            [
                (self.noise_of(p), 1 - line.fidelity[0])
                for line, p in lines
                if line and p.residual == self.space.usual.residual
            ]
        )

    def _test(
        self,
        name: str,
        source: Source,
        precision: str,
        predicted: tuple[float | None, float | None],
    ) -> Tested:
        inputs, config = self.shop.inputs, self.shop.config
        with temporary_folder(config.folder, "search") as folder:
            file = self.shop.engine.make(source, precision, folder)
            predictor = self._load(file, precision)
            size = sum(part.stat().st_size for part in engine_files(file))
            score = scorer(inputs)(find(inputs, predictor, title=f"detect, {name}"))
            ms, float_ms = self._times(predictor, source)
        figures = {"fidelity": score.fidelity.tolist(), "map50_95": score.map50_95.tolist()}
        rounded = {k: tuple(round(v, 7) for v in values) for k, values in figures.items()}
        line = Tested(name, ms, float_ms, **rounded, size_bytes=size, predicted=predicted)
        self.shop.journal.append(line)
        say(describe(line))
        return line

    def left(self) -> str:
        """How many placements are done, and how long the others will take."""
        done, most = len(self.points), self.shop.config.trials
        seconds = round((most - done) * sum(self.took) / len(self.took))
        return f"{done} of {most} placements, left {timedelta(seconds=seconds)}"

    def _times(self, predictor: Predictor, source: Source) -> tuple[float, float]:
        """Median milliseconds of an engine, and of the fastest float type, in turn."""
        precision = self.floats[-1]
        if precision not in self.loaded:
            file = self.shop.engine.make(source, precision, self.kept)
            self.loaded[precision] = self._load(file, precision)
        config, size = self.shop.config, self.shop.inputs.imgsz
        shape = (1, size, size, 3)
        image = np.random.default_rng(config.seed).integers(0, 256, shape, np.uint8)
        both = {"this": predictor, "float": self.loaded[precision]}
        times = measure_predictors(both, image, config.runs, WARMUP, self.shop.threads)
        return times["this"].p50, times["float"].p50

    def _load(self, file: Path, precision: str) -> Predictor:
        return self.shop.engine.load(file, precision, self.shop.config.device, self.shop.threads)

    def lines(self) -> list[Tested]:
        """All that was measured, the float engines first."""
        names = [*self.floats, *self.points]
        return [line for name in names if (line := self.shop.journal.find(Tested, name))]

    @property
    def float_ms(self) -> float:
        """What the fastest float type takes: the median over all trials."""
        return median(line.float_ms for line in self.lines())

    def spots(self, measure: str) -> list[Spot]:
        """Latency and loss of all; what slowed the machine for a while slowed the float engine too.

        Args:
            measure: `fidelity`, or `map` for AP50-95.
        """
        lines, usual = self.lines(), self.float_ms
        best = {"fidelity": 1.0, "map": lines[0].map50_95[0]}[measure]
        field = {"fidelity": "fidelity", "map": "map50_95"}[measure]
        return [
            Spot(
                line.name,
                usual * line.ms / line.float_ms,
                best - getattr(line, field)[0],
                line.name in self.points,
            )
            for line in lines
        ]


def describe(line: Tested) -> str:
    """One line for the terminal."""
    share, loss = line.predicted
    expected = [f"{share * line.float_ms:.2f} ms"] if share is not None else []
    expected += [f"fidelity {1 - loss:.3f}"] if loss is not None else []
    text = f"{line.name}: {line.ms:.2f} ms, fidelity {line.fidelity[0]:.3f}, "
    text += f"AP50-95 {100 * line.map50_95[0]:.2f}"
    return text + (f" (predicted {', '.join(expected)})" if expected else "")


def promising(trials: Trials, count: int) -> list[Point]:
    """The predicted front, thinned to so many points from end to end.

    Each symmetry gives a chain of points: everything in int8, then block after block in float, the
    one that spares most noise for its time first.
    """
    space, forecast = trials.space, trials.forecast
    found: dict[str, Point] = {}
    for symmetric in space.symmetries:
        start = Point(symmetric, space.usual.residual, False, ())
        floats: set[str] = set()
        order = forecast.order(symmetric, trials.calibrators(start))
        for block in [None, *order[:-1]]:
            floats |= {block} if block else set()
            point = Point(symmetric, start.residual, start.mixed, space.ordered(floats))
            found[point.name] = point
    spots = [Spot(n, forecast.ms_of(p), trials.noise_of(p)) for n, p in found.items()]
    front = pareto(spots)
    # beyond the float engine's time there is nothing to win
    front = [spot for spot in front if spot.ms < forecast.latency[1]] or front[:1]
    places = np.unique(np.linspace(0, len(front) - 1, count).round().astype(int))
    return [found[front[place].name] for place in places]


def search(trials: Trials) -> None:
    """Measure the default, the promising points, then neighbours of what answers the question."""
    config = trials.shop.config
    trials.float_engines()
    trials.test(trials.space.default)
    for point in promising(trials, max(2, config.trials // 2)):
        if len(trials.points) < config.trials:
            trials.test(point)
    while len(trials.points) < config.trials:
        following = next(_neighbours(trials), None)
        if following is None:
            break
        trials.test(following)


def _neighbours(trials: Trials) -> Iterator[Point]:
    """Points beside the int8 engine that answers best so far, which were not measured yet."""
    config = trials.shop.config
    spots = [spot for spot in trials.spots(config.measure) if spot.int8]
    fallback = min(spots, key=lambda spot: spot.loss)
    chosen = answer(spots, config.max_drop, config.max_latency) or fallback
    point = trials.points[chosen.name]
    order = trials.forecast.order(point.symmetric, trials.calibrators(point))
    for other in trials.space.neighbours(point, order):
        if other.name not in trials.points:
            yield other
