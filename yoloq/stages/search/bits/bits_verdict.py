"""What a search for bits found: the answer in words, the table, the picture, plain data."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yoloq.geometry.detections import Detections
from yoloq.measure.bootstrap import HIGH, LOW
from yoloq.measure.pareto import Spot, pareto
from yoloq.quant.mixed.width import counted
from yoloq.report.plots import draw_bars
from yoloq.stages.row import BASELINE
from yoloq.stages.search.bits.bit_trials import BitTrials
from yoloq.stages.sensitivity.run_sweep import scorer

TITLES = {"size": "Packed MB", "bops": "G bit operations", "latency": "ms"}
Floats = NDArray[np.float64]


def verdict(trials: BitTrials, found: str | None) -> str:
    """What the search came to, in one line; `found` is the name of the answer."""
    asked = f"the best within {trials.prices.budget.asked}"
    beside = "; ".join(_figures(trials, name) for name in trials.uniform if name != found)
    if found is None:
        nearest = min(trials.all, key=trials.cost)
        return f"{asked}: nothing that was tried; the nearest: {_figures(trials, nearest)}"
    return f"{asked}: {_figures(trials, found)}" + (f"; beside it {beside}" if beside else "")


def _figures(trials: BitTrials, name: str) -> str:
    fidelity = trials.line(name).fidelity[0]
    return f"{name} ({trials.prices.budget.text(trials.cost(name))}, fidelity {fidelity:.3f})"


def points(trials: BitTrials, found: str | None) -> list[dict[str, Any]]:
    """All that was measured as plain data, what costs least first; costs in the budget's unit."""
    reference = _reference(trials)
    spots = [Spot(n, trials.cost(n), 1 - trials.line(n).fidelity[0]) for n in trials.all]
    front = {spot.name for spot in pareto(spots)}
    return [
        _point(trials, name, reference)
        | {"front": name in front, "answer": name == found, "uniform": name in trials.uniform}
        for name in sorted(trials.all, key=trials.cost)
    ]


def _reference(trials: BitTrials) -> Floats:
    """AP50-95 of FP32, then of the resamples."""
    inputs = trials.shop.inputs
    found = Detections.load(inputs.config.folder / BASELINE).first(len(inputs.images))
    return np.asarray(scorer(inputs)(found).map50_95)


def _point(trials: BitTrials, name: str, reference: Floats) -> dict[str, Any]:
    line, choice = trials.line(name), trials.all[name]
    delta = np.asarray(line.map50_95) - reference
    return {
        "name": name,
        "bits": counted(choice.values()),
        "cost": trials.prices.budget.shown(trials.cost(name)),
        "predicted_loss": line.predicted,
        "loss": 1 - line.fidelity[0],
        "loss_ci95": _interval(1 - np.asarray(line.fidelity[1:])),
        "map50_95": line.map50_95[0],
        "delta": float(delta[0]),
        "delta_ci95": _interval(delta[1:]),
        "packed_bytes": line.size_bytes,
    }


def _interval(values: Floats) -> tuple[float, float]:
    low, high = np.percentile(values, (LOW, HIGH))
    return float(low), float(high)


def rendered(trials: BitTrials, rows: list[dict[str, Any]]) -> list[list[str]]:
    """Header and cells of the table of `points`; the answer is marked."""
    title = TITLES[trials.prices.budget.kind]
    head = ["Bits", "Front", title, "Predicted", "Fidelity", "95% interval", "AP50-95"]
    head += ["Delta", "95% interval", TITLES["size"]]
    end = head.index(TITLES["size"], 3) if title == TITLES["size"] else len(head)  # not twice
    return [cells[:end] for cells in (head, *map(_cells, rows))]


def _cells(row: dict[str, Any]) -> list[str]:
    predicted, ends = row["predicted_loss"], [1 - edge for edge in reversed(row["loss_ci95"])]
    return [
        row["name"],
        "answer" if row["answer"] else "yes" if row["front"] else "",
        f"{row['cost']:.3f}",
        "-" if predicted is None else f"{1 - predicted:.4f}",
        f"{1 - row['loss']:.4f}",
        "{:.4f} to {:.4f}".format(*ends),
        f"{100 * row['map50_95']:.2f}",
        f"{100 * row['delta']:+.2f}",
        "{:+.2f} to {:+.2f}".format(*(100 * edge for edge in row["delta_ci95"])),
        f"{row['packed_bytes'] / 1e6:.3f}",
    ]


def draw(file: Path, trials: BitTrials, found: str) -> None:
    """Bits of each layer's weights in the answer."""
    choice = trials.all[found]
    title = f"Bits of weights within {trials.prices.budget.asked} (16: float)"
    draw_bars(file, title, list(choice), [width.weight for width in choice.values()])
