"""Progress on stderr: a bar with the time left on a terminal, one line at the end elsewhere."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

REDRAW = 0.2  # seconds between two drawings of a quiet bar


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
        print(f"{title}: {total} {unit}, {time.perf_counter() - start:.1f} s", file=sys.stderr)


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
        TextColumn("{task.description}"),
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
