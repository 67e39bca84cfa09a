"""The course of a training: loss, accuracy and learning rate by epoch."""

from collections.abc import Sequence

from yoloq.report.section import Figure, Table
from yoloq.report.svg.lines import Lines, Series
from yoloq.report.svg.marks import Style

Epoch = dict[str, float]

ACCURACY = ("fidelity", "map50_95", "map50")
NAMES = {"map50_95": "AP50-95", "map50": "AP50", "lr": "learning rate"}
WIDTH = 560.0
NO_LOSS = ("epoch", "lr", "seconds", *ACCURACY)


def epoch_charts(epochs: Sequence[Epoch], best: int) -> tuple[Figure, ...]:
    """A chart each of the losses, the accuracy on val and the learning rate.

    Args:
        best: the epoch that is kept.
    """
    losses = tuple(dict.fromkeys(n for epoch in epochs for n in epoch if n not in NO_LOSS))
    panes = (("loss", losses, True), ("accuracy on val", ACCURACY, False), ("rate", ("lr",), False))
    charts = []
    for title, names, log in panes:
        series = [_series(i, name, epochs) for i, name in enumerate(names)]
        series = [each for each in series if each.points]
        if series:
            marked = [(best, f"epoch {best} is kept")]
            ticks = [(epoch["epoch"], f"{epoch['epoch']:g}") for epoch in epochs]
            told = (f"{title} by epoch", "epoch", title, series, log)
            chart = Lines(*told, marked=marked, ticks=ticks, width=WIDTH)
            charts.append(Figure(chart.draw()))
    return tuple(charts)


def _series(index: int, name: str, epochs: Sequence[Epoch]) -> Series:
    found = [epoch for epoch in epochs if name in epoch]
    shown = NAMES.get(name, name)
    hovers = [f"epoch {epoch['epoch']:g}\n{shown} {epoch[name]:.5g}" for epoch in found]
    return Series(shown, [(epoch["epoch"], epoch[name]) for epoch in found], hovers, Style(index))


def epoch_table(epochs: Sequence[Epoch]) -> Table:
    """All figures of all epochs."""
    names = list(dict.fromkeys(name for epoch in epochs for name in epoch))
    rows = (tuple(f"{e[n]:.5g}" if n in e else "-" for n in names) for e in epochs)
    return (tuple(NAMES.get(name, name) for name in names), *rows)
