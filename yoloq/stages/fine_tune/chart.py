"""The course of a training as a picture."""

from collections.abc import Sequence
from pathlib import Path

from yoloq.report.plots import new_figure, save_figure
from yoloq.train.state import Epoch

FIGURES = ("fidelity", "map50_95", "map50")
OTHERS = ("epoch", "lr", "seconds", *FIGURES)


def draw_curves(file: Path, rows: Sequence[Epoch], best: int, name: str, before: str) -> None:
    """Loss parts, accuracy and learning rate by epoch; the epoch that is kept is marked.

    Args:
        rows: the table of epochs; figures that an epoch has not are left out.
        best: number of the epoch that is kept.
        name: of the stage, for the title.
        before: what epoch 0 is.
    """
    losses = [name for name in dict.fromkeys(n for row in rows for n in row) if name not in OTHERS]
    panes = {"loss": losses, "accuracy on val": list(FIGURES), "learning rate": ["lr"]}
    figure, axes = new_figure(9, 9, rows=len(panes))
    for pane, (title, names) in zip(axes, panes.items(), strict=True):
        for name in names:
            points = [(row["epoch"], row[name]) for row in rows if name in row]
            if points:
                pane.plot(*zip(*points, strict=True), marker=".", label=name)
        pane.axvline(best, color="black", linestyle="--", linewidth=0.8)
        pane.set_xlim(-0.2, max(rows[-1]["epoch"], 1) + 0.2)
        pane.locator_params(axis="x", integer=True)
        pane.set_ylabel(title)
        pane.grid(alpha=0.3)
        pane.legend(fontsize=8)
    axes[0].set_title(f"{name} by epoch; epoch {best} is kept{f' ({before})' * (best == 0)}")
    axes[0].set_yscale("log")
    axes[-1].set_xlabel("epoch")
    save_figure(figure, file)
