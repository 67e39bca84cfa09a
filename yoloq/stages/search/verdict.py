"""What a search found: the answer in words, the table, the picture."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from yoloq.base.own_files import MAKE
from yoloq.measure.bootstrap import HIGH, LOW
from yoloq.measure.pareto import Spot, pareto
from yoloq.report.plots import draw_front
from yoloq.stages.search import SearchConfig
from yoloq.stages.search.trial_lines import Tested
from yoloq.stages.search.trials import Trials

UNITS = {"map": "AP50-95", "fidelity": "fidelity"}
HEADER = (
    *("Engine", "Front", "ms", "Predicted", "Fidelity", "95% interval", "Predicted", "AP50-95"),
    *("Delta", "95% interval", "MB"),
)


def question(config: SearchConfig) -> str:
    """What was asked, in words."""
    if config.max_drop is not None:
        return f"the fastest that loses at most {config.max_drop:g} of {UNITS[config.measure]}"
    if config.max_latency is not None:
        return f"the best within {config.max_latency:g} ms"
    return "the best trade of time for fidelity"


def verdict(config: SearchConfig, spots: Sequence[Spot], found: Spot | None, measure: str) -> str:
    """What the search came to, in one line."""
    asked = question(config)
    if found is None:
        if config.max_drop is not None:
            best = min((spot for spot in spots if spot.int8), key=lambda spot: spot.loss)
            return (
                f"{asked}: nothing here; the best int8 loses {best.loss:+.4f} ({best.name}); "
                f"next: {MAKE} qat"
            )
        fastest = min(spots, key=lambda spot: spot.ms)
        return f"{asked}: nothing here; the fastest takes {fastest.ms:.2f} ms ({fastest.name})"
    figures = f"{found.ms:.2f} ms, loss of {UNITS[measure]} {found.loss:+.4f}"
    if found.int8:
        return f"{asked}: int8, {found.name} ({figures})"
    return f"{asked}: {found.name}, no int8 engine that was tried ({figures})"


def rendered(trials: Trials, measure: str, found: Spot | None) -> list[list[str]]:
    """Header and cells of the table, the fastest first; the answer is marked."""
    spots, lines = trials.spots(measure), trials.lines()
    front = {spot.name for spot in pareto(spots)}
    reference = np.asarray(lines[0].map50_95)
    rows = [list(HEADER)]
    for spot, line in sorted(zip(spots, lines, strict=True), key=lambda pair: pair[0].ms):
        here = "answer" if found and spot.name == found.name else "yes"
        share, loss = line.predicted
        delta = np.asarray(line.map50_95) - reference
        rows.append(
            [
                line.name,
                here if spot.name in front or here == "answer" else "",
                f"{spot.ms:.2f}",
                "-" if share is None else f"{share * trials.float_ms:.2f}",
                f"{line.fidelity[0]:.4f}",
                _interval(np.asarray(line.fidelity[1:]), "{:.4f}"),
                "-" if loss is None else f"{1 - loss:.4f}",
                f"{100 * line.map50_95[0]:.2f}",
                f"{100 * delta[0]:+.2f}",
                _interval(100 * delta[1:], "{:+.2f}"),
                f"{line.size_bytes / 1e6:.2f}",
            ]
        )
    return rows


def _interval(values: "np.ndarray[tuple[int], np.dtype[np.float64]]", form: str) -> str:
    low, high = np.percentile(values, (LOW, HIGH))
    return f"{form.format(low)} to {form.format(high)}"


def draw(file: Path, trials: Trials, measure: str, found: Spot | None) -> None:
    """Latency against loss with 95% intervals, the front as a line, the answer ringed."""
    spots, lines = trials.spots(measure), trials.lines()
    points = []
    for spot, line in zip(spots, lines, strict=True):
        low, high = span(line, lines[0], measure)
        points.append((spot.name, spot.ms, 100 * spot.loss, (100 * low, 100 * high)))
    front = [(spot.ms, 100 * spot.loss) for spot in pareto(spots)]
    ylabel = f"points of {UNITS[measure]} lost, with 95% interval"
    draw_front(file, points, front, trials.floats, found.name if found else "", ylabel)


def span(line: Tested, reference: Tested, measure: str) -> tuple[float, float]:
    """The 95% interval of a loss, paired with FP32 on the same resamples."""
    if measure == "fidelity":
        losses = 1 - np.asarray(line.fidelity[1:])
    else:
        losses = np.asarray(reference.map50_95[1:]) - np.asarray(line.map50_95[1:])
    low, high = np.percentile(losses, (LOW, HIGH))
    return float(low), float(high)
