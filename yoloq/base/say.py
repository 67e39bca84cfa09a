"""What the user is told: messages and progress on stderr, what was asked for on stdout.

In a file a bar is one line. How much is said is a `Voice`, which every command has as flags.
"""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from yoloq.base.config import option

if TYPE_CHECKING:
    from rich.console import Console

REDRAW = 0.2  # seconds between two drawings of a quiet bar
COLOURS = {"warning": 33, "error": 31}  # of the first word, as terminals number them


@dataclass(frozen=True)
class Voice:
    """How much a command says, and where."""

    json: bool = option(False, "print the result as one JSON object on stdout, all else on stderr")
    quiet: bool = option(False, "print warnings, errors and the result alone")
    debug: bool = option(False, "print the stack trace of an error as well")


_voices = [Voice()]  # the last one speaks


@contextlib.contextmanager
def speaking(chosen: Voice) -> Iterator[None]:
    """Speak with a voice inside the block."""
    _voices.append(chosen)
    try:
        yield
    finally:
        _voices.pop()


def voice() -> Voice:
    """The one in use."""
    return _voices[-1]


def say(text: str) -> None:
    """Tell the user what is going on; results go to stdout, this to stderr."""
    if not voice().quiet:
        print(text, file=sys.stderr, flush=True)


def warn(text: str) -> None:
    """Tell the user what may be wrong and what to do about it."""
    _call_out("warning", text)


def fail(text: str) -> None:
    """Tell the user why the work ended, and what mends it."""
    _call_out("error", text)


def _call_out(word: str, text: str) -> None:
    if has_colours(sys.stderr):
        word = f"\033[{COLOURS[word]}m{word}\033[0m"
    print(f"{word}: {text}", file=sys.stderr, flush=True)


def has_colours(stream: TextIO) -> bool:
    """Whether a stream is a terminal whose user wants colours (no-color.org)."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return stream.isatty() and not plain


def put(text: str) -> None:
    """Print a line of what was asked for."""
    print(text, file=_result_stream(), flush=True)


def result_console(**settings: Any) -> "Console":
    """Where a result is drawn; `settings` are rich's."""
    from rich.console import Console

    return Console(file=_result_stream(), **settings)


def _result_stream() -> TextIO:
    """stdout, unless that is for one JSON object."""
    return sys.stderr if voice().json else sys.stdout


def shows_bars() -> bool:
    """Whether progress is drawn as a bar."""
    return sys.stderr.isatty() and not voice().quiet


@contextlib.contextmanager
def progress(
    title: str, total: int | None, unit: str = "images", shown: bool = True, quiet: bool = False
) -> Iterator[Callable[[int], None]]:
    """Give a function that takes how many units are newly done.

    Args:
        title: what is being done.
        total: units there are; None: nobody knows.
        unit: what is counted, in the plural.
        shown: False shows nothing at all.
        quiet: draw only when a unit is done, without a thread: it would disturb what is timed.
    """
    start = time.perf_counter()
    if not shown:
        yield lambda count: None
    elif shows_bars():
        with _bar(title, total, unit, quiet) as advance:
            yield advance
    else:
        done = 0

        def count_up(count: int) -> None:
            nonlocal done
            done += count

        yield count_up
        number = done if total is None else total
        say(f"{title}: {number} {unit}, {time.perf_counter() - start:.1f} s")


@contextlib.contextmanager
def _bar(title: str, total: int | None, unit: str, quiet: bool) -> Iterator[Callable[[int], None]]:
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
            left = count if total is None else total - bar.tasks[0].completed
            bar.advance(task, min(count, left))
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
    if not shows_bars():
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
