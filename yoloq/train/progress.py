"""A progress bar of training on stderr; one line an epoch where stderr is no terminal."""

import time
from datetime import timedelta
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from yoloq.base.say import say, shows_bars


class EpochProgress:
    """Bar over all steps of all epochs, with the losses and the time left."""

    def __init__(self, epochs: int, steps: int, start: int = 0) -> None:
        self.epochs = epochs
        self.start = start
        self.losses = ""
        self.began = time.perf_counter()
        self.console = Console(stderr=True)
        columns = ("{task.description}", BarColumn(), TextColumn("{task.fields[losses]}"))
        self.bar = Progress(
            *columns,
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            disable=not shows_bars(),
        )
        left = steps * (epochs - start)
        self.task = self.bar.add_task(f"epoch {start + 1}/{epochs}", total=left, losses="")

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.bar.stop()

    def step(self, epoch: int, losses: dict[str, float] | None) -> None:
        """One batch is done; None leaves the losses that are shown."""
        text = f"epoch {epoch + 1}/{self.epochs}"
        self.losses = self.losses if losses is None else _join(losses)
        self.bar.update(self.task, advance=1, description=text, losses=self.losses)

    def validating(self, epoch: int) -> None:
        """The batches of an epoch are done; what is measured now takes its time."""
        self.bar.update(self.task, description=f"epoch {epoch + 1}/{self.epochs}, val")

    def report(self, row: dict[str, float]) -> None:
        """One epoch is done; it gets a line that stays, with the time that the others will take."""
        done = int(row["epoch"])
        figures = {name: value for name, value in row.items() if name != "epoch"}
        line = f"epoch {done}/{self.epochs}  {_join(figures)}"
        each = (time.perf_counter() - self.began) / (done - self.start)
        if done < self.epochs:
            line += f"  left {timedelta(seconds=round(each * (self.epochs - done)))}"
        if shows_bars():
            self.console.print(line, highlight=False)
        else:
            say(line)


def _join(numbers: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in numbers.items())
