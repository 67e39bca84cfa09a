"""Pictures of results: drawn without a screen, written whole, and nothing left elsewhere."""

import contextlib
import os
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from yoloq.base.files import replace_when_whole
from yoloq.measure.compare import LOW_COSINE, LOW_SNR, LayerError
from yoloq.quant.statistics import Statistics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 120
BLUE, RED, GREY = "#1f77b4", "#d62728", "#999999"


def new_figure(
    width: float, height: float, rows: int = 1, columns: int = 1
) -> "tuple[Figure, list[Axes]]":
    """A figure and its panes in reading order.

    Args:
        width: in inches, at 120 pixels an inch.
        height: in inches.
    """
    with _contained():
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)  # registers itself
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


@contextlib.contextmanager
def _contained() -> Iterator[None]:
    """Give matplotlib's import a temporary folder for its font cache.

    Its own fonts suffice: asking the system for others takes seconds, runs a program that keeps a
    cache at home, and makes pictures differ from machine to machine.
    """
    names = ("MPLCONFIGDIR", "MPL_IGNORE_SYSTEM_FONTS")
    before = {name: os.environ.get(name) for name in names}
    with tempfile.TemporaryDirectory(prefix="yoloq-") as folder:
        os.environ.update(MPLCONFIGDIR=folder, MPL_IGNORE_SYSTEM_FONTS="1")
        try:
            yield
        finally:
            for name, value in before.items():
                os.environ.pop(name)
                if value is not None:
                    os.environ[name] = value


def save_figure(figure: "Figure", file: Path) -> None:
    """Write a PNG whole; the same figure gives the same bytes.

    Raises:
        RunError: it cannot be written; says why.
    """
    with replace_when_whole(file) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})


def draw_bars(
    file: Path,
    title: str,
    names: Sequence[str],
    values: Sequence[float],
    errors: Sequence[tuple[float, float] | None] | None = None,
    xlabel: str = "",
) -> None:
    """Horizontal bars, the first name on top.

    Args:
        errors: (low, high) ends of each value's interval, on the scale of the values; None for a
            value that has none.
    """
    save_figure(bars(title, names, values, errors, xlabel), file)


def bars(
    title: str,
    names: Sequence[str],
    values: Sequence[float],
    errors: Sequence[tuple[float, float] | None] | None = None,
    xlabel: str = "",
) -> "Figure":
    """The figure of `draw_bars`."""
    figure, (axes,) = new_figure(9, 1.5 + 0.22 * max(len(names), 3))
    places = np.arange(len(names))
    xerr = None if errors is None else _lengths(values, errors)
    axes.barh(places, values, height=0.7, color=BLUE, xerr=xerr, ecolor="black", capsize=2)
    axes.set_yticks(places, names, fontsize=8)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    axes.set(title=title, xlabel=xlabel)
    return figure


def _lengths(values: Sequence[float], errors: Sequence[tuple[float, float] | None]) -> Any:
    """(2, bars) distances of the ends from the values; NaN draws nothing."""
    ends = np.array([(np.nan, np.nan) if pair is None else pair for pair in errors]).reshape(-1, 2)
    lengths = np.stack([values - ends[:, 0], ends[:, 1] - values])
    return np.maximum(lengths, 0)  # a bootstrap's interval can miss the value itself


def draw_histogram(
    file: Path, title: str, statistics: Statistics, amax: Mapping[str, float], chosen: str
) -> None:
    """A tensor's histogram, linear and logarithmic, with the amax of every calibrator drawn in.

    Args:
        amax: by calibrator.
        chosen: the one in use, drawn thick.
    """
    save_figure(histogram(title, statistics, amax, chosen), file)


def histogram(
    title: str, statistics: Statistics, amax: Mapping[str, float], chosen: str
) -> "Figure":
    """The figure of `draw_histogram`."""
    figure, panes = new_figure(9, 7, rows=2)
    figure.suptitle(title)
    edges, counts = merged(statistics)
    for axes, scale in zip(panes, ("linear", "log"), strict=True):
        axes.stairs(counts, edges, fill=True, color=GREY)
        axes.set_yscale(scale)
        if scale == "log":
            axes.set_ylim(bottom=0.5)  # below one element
        for index, (name, bound) in enumerate(amax.items()):
            _draw_bound(axes, index, name, bound, name == chosen, statistics.low < 0)
        axes.set_ylabel(f"elements of the sample ({scale})")
    panes[0].legend(fontsize=8)
    panes[-1].set_xlabel("value")
    return figure


def merged(statistics: Statistics, bins: int = 512) -> tuple[Any, Any]:
    """(edges, counts) with neighbouring bins joined: a picture has no pixels for all of them."""
    counts = statistics.counts
    joined = max(len(counts) // bins, 1)
    edges = np.linspace(statistics.low, statistics.high, len(counts) + 1)
    starts = np.arange(0, len(counts), joined)
    if statistics.low == statistics.high:  # a constant tensor: give its one value a width
        width = abs(statistics.low) * 1e-3 or 1e-3
        edges = np.linspace(statistics.low - width, statistics.high + width, len(counts) + 1)
    return np.append(edges[starts], edges[-1]), np.add.reduceat(counts, starts)


def _draw_bound(
    axes: "Axes", index: int, name: str, bound: float, used: bool, negative: bool
) -> None:
    """A calibrator's amax as a line, and its mirror image where the tensor goes below zero."""
    style: dict[str, Any] = {
        "color": f"C{index}",
        "linewidth": 2.5 if used else 1.2,
        "linestyle": "-" if used else "--",
    }
    label = f"{name}: {bound:.4g}{' (used)' if used else ''}"
    axes.axvline(bound, label=label, **style)
    if negative:
        axes.axvline(-bound, **style)


def draw_errors(
    file: Path, errors: Sequence[LayerError], cosine: float = LOW_COSINE, snr: float = LOW_SNR
) -> None:
    """SNR and cosine similarity of each layer in forward order.

    Args:
        cosine: threshold below which a layer is marked.
        snr: the same for the SNR, in dB.
    """
    save_figure(error_curves(errors, cosine, snr), file)


def error_curves(
    errors: Sequence[LayerError], cosine: float = LOW_COSINE, snr: float = LOW_SNR
) -> "Figure":
    """The figure of `draw_errors`."""
    figure, panes = new_figure(max(8, 2 + 0.16 * len(errors)), 7, rows=2)
    series = (
        ("SNR (dB)", np.array([item.snr for item in errors], float), snr),
        ("cosine similarity", np.array([item.cosine for item in errors], float), cosine),
    )
    for axes, (label, values, threshold) in zip(panes, series, strict=True):
        places = np.arange(len(values))
        bad = ~(values >= threshold)  # NaN is bad too
        axes.plot(places, values, marker=".", color=BLUE)
        axes.plot(places[bad], values[bad], linestyle="", marker="o", color=RED)
        axes.axhline(threshold, color=RED, linestyle="--", label=f"threshold {threshold:g}")
        axes.set_xticks(places, ["" for _ in errors])
        axes.set_xlim(-0.5, max(len(values), 1) - 0.5)
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    panes[-1].set_xticklabels([item.layer for item in errors], rotation=90, fontsize=7)
    panes[0].set_title("Error of each layer's output, in forward order")
    return figure


def draw_curve(file: Path, curves: Mapping[str, Sequence[tuple[int, float]]]) -> None:
    """amax against the number of calibration images, a line a layer."""
    save_figure(amax_curves(curves), file)


def amax_curves(curves: Mapping[str, Sequence[tuple[int, float]]]) -> "Figure":
    """The figure of `draw_curve`."""
    figure, (axes,) = new_figure(9, 5)
    for layer, points in curves.items():
        images, amax = zip(*points, strict=True)
        axes.plot(images, amax, marker=".", label=layer)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_ylim(bottom=0)
    axes.set(title="What calibration chooses", xlabel="calibration images", ylabel="amax")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure


def draw_front(
    file: Path,
    points: Sequence[tuple[str, float, float, tuple[float, float]]],
    front: Sequence[tuple[float, float]],
    floats: Collection[str],
    chosen: str,
    ylabel: str,
) -> None:
    """Latency against loss.

    Args:
        points: name, milliseconds, loss and the ends of its interval.
        front: milliseconds and loss of those that no other beats, the fastest first.
        floats: names of those that hold no int8.
        chosen: the name of the one to ring; empty: none.
    """
    save_figure(front_figure(points, front, floats, chosen, ylabel), file)


def front_figure(
    points: Sequence[tuple[str, float, float, tuple[float, float]]],
    front: Sequence[tuple[float, float]],
    floats: Collection[str],
    chosen: str,
    ylabel: str,
) -> "Figure":
    """The figure of `draw_front`."""
    figure, (axes,) = new_figure(9, 6)
    axes.step(*zip(*front, strict=True), where="post", color=BLUE, alpha=0.5, label="front")
    for name, ms, loss, ends in points:
        color = GREY if name in floats else BLUE
        axes.plot([ms, ms], ends, color=color, linewidth=1)
        axes.plot(ms, loss, marker="o", color=color)
        if name == chosen:
            axes.plot(ms, loss, marker="o", markersize=14, markerfacecolor="none", color=RED)
        if name == chosen or name in floats:
            at = {"textcoords": "offset points", "xytext": (9, -12)}
            axes.annotate(name, (ms, loss), fontsize=7, **at)  # type: ignore[arg-type]
    axes.set(title="Latency against loss", xlabel="ms an image", ylabel=ylabel)
    axes.grid(alpha=0.3)
    return figure
