"""What the user is told on stderr: messages, and progress as a bar or, in a file, as one line."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

REDRAW = 0.2  # seconds between two drawings of a quiet bar


def say(text: str) -> None:
    """Tell the user what is going on; results go to stdout, this to stderr."""
    print(text, file=sys.stderr, flush=True)


def warn(text: str) -> None:
    """Tell the user what may be wrong and what to do about it."""
    say(f"warning: {text}")


@contextlib.contextmanager
def progress(
    title: str, total: int, unit: str = "images", shown: bool = True, quiet: bool = False
) -> Iterator[Callable[[int], None]]:
    """Give a function that takes how many units are newly done.

    Args:
        title: what is being done.
        total: units there are.
        unit: what is counted, in the plural.
        shown: False shows nothing at all.
        quiet: draw only when a unit is done, without a thread: it would disturb what is timed.
    """
    start = time.perf_counter()
    if not shown:
        yield lambda count: None
    elif sys.stderr.isatty():
        with _bar(title, total, unit, quiet) as advance:
            yield advance
    else:
        yield lambda count: None
        say(f"{title}: {total} {unit}, {time.perf_counter() - start:.1f} s")


@contextlib.contextmanager
def _bar(title: str, total: int, unit: str, quiet: bool) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), auto_refresh=not quiet) as bar:
        task = bar.add_task(title, total=total)
        drawn = time.perf_counter()

        def advance(count: int) -> None:
            nonlocal drawn
            bar.advance(task, count)
            if quiet and time.perf_counter() - drawn > REDRAW:
                bar.refresh()
                drawn = time.perf_counter()

        yield advance


class Phases:
    """Phases within phases, as some libraries report their work; any thread may call.

    A phase is known by its name while it lasts; what is said of an unknown one is passed over.
    """

    def __init__(self, bar: Any = None) -> None:
        self.bar = bar
        self.depths: dict[str, int] = {}
        self.tasks: dict[str, Any] = {}

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """Begin a phase of some steps, within another or on its own."""
        self.depths[name] = self.depths.get(parent, 0) + 1 if parent else 1
        if self.bar is not None:
            self.tasks[name] = self.bar.add_task("  " * self.depths[name] + name, total=steps)

    def step(self, name: str, done: int) -> None:
        """Say how many steps of a phase are done."""
        if name in self.tasks:
            self.bar.update(self.tasks[name], completed=done)

    def finish(self, name: str) -> None:
        """End a phase; its bar goes."""
        self.depths.pop(name, None)
        if name in self.tasks:
            self.bar.remove_task(self.tasks.pop(name))


@contextlib.contextmanager
def phases(title: str) -> Iterator[Phases]:
    """Give what draws the phases of something below its title; one line at the end elsewhere.

    Args:
        title: what is being done.
    """
    start = time.perf_counter()
    if not sys.stderr.isatty():
        yield Phases()
        say(f"{title}: {time.perf_counter() - start:.1f} s")
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        # TensorRT names phases after nodes, in brackets: "... {ForeignNode[/net/model.9/Concat]}"
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        bar.add_task(title, total=None)
        yield Phases(bar)
