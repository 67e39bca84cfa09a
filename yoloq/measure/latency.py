"""Latency: of several engines in turn, and of the whole path from an image file to its boxes."""

import contextlib
import gc
import itertools
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from yoloq.base.errors import DataError
from yoloq.base.machine import affinity
from yoloq.base.say import progress
from yoloq.engines.predictor import Predictor
from yoloq.measure.image_path import ImagePath

GPU_WARMUP = 50  # rounds
TURN = 5  # timed calls before the next has its turn
REST = 0.1  # seconds that threads of another runtime may still spin after its last call


@dataclass(frozen=True)
class Latency:
    """Percentiles of a call's time in milliseconds, and how they were taken.

    `fps` is images a second at the median: 1000 * batch / p50. `threads` is what the caller says
    the call may use. `clock` is `wall`, or `gpu` for the time between two events on the GPU around
    the model alone, with the images there already.
    """

    p50: float
    p99: float
    mean: float
    fps: float
    runs: int
    warmup: int
    batch: int
    threads: int
    clock: str = "wall"


@runtime_checkable
class Stopwatched(Protocol):
    """A predictor that times itself: `stopwatch(images)` gives a function that runs them once and
    returns the seconds that it took."""

    def stopwatch(self, images: NDArray[np.uint8]) -> Callable[[], float]: ...


def measure_predictors(
    predictors: Mapping[str, Predictor],
    images: NDArray[np.uint8],
    runs: int = 50,
    warmup: int = 5,
    threads: int = 0,
    title: str = "",
) -> dict[str, Latency]:
    """Time predictors in turn on the same images, by their own stopwatch where they have one.

    A GPU leaves its idle clocks only after some work, so that it is warmed up for longer.

    Args:
        predictors: by name.
        images: of one call.
        runs, warmup, threads, title: as of `measure`.
    """
    calls: dict[str, Callable[[], object]] = {}
    for name, predictor in predictors.items():
        if isinstance(predictor, Stopwatched):
            calls[name] = predictor.stopwatch(images)
        else:
            calls[name] = partial(predictor, images)
    watched = [name for name, each in predictors.items() if isinstance(each, Stopwatched)]
    warmup = max(warmup, GPU_WARMUP) if watched else warmup
    return measure(calls, runs, warmup, len(images), threads, title, watched)


def measure(
    calls: Mapping[str, Callable[[], object]],
    runs: int = 50,
    warmup: int = 5,
    batch: int = 1,
    threads: int = 0,
    title: str = "",
    watched: Collection[str] = (),
    turn: int = TURN,
) -> dict[str, Latency]:
    """Time calls in turn: some of each, then the next of each, and so on.

    Whatever slows the machine for a while slows all of them, so that their ratios hold where the
    figures themselves do not. A turn begins with calls that do not count, until what was called
    before is at rest: ONNX Runtime's threads spin on for 80 ms, and yolov5n on two cores takes 22
    ms beside them where it takes 12. A call must return only when its work is done.

    Args:
        calls: by name.
        runs: timed calls of each.
        warmup: rounds before them that are not counted.
        batch: images a call.
        threads: threads a call may use; 0: as many as this process has cores.
        title: of a progress bar on stderr; empty: none.
        watched: names of the calls that return the seconds they took on a GPU.
        turn: timed calls before the next has its turn.

    Raises:
        ValueError: no timed round was asked for.
    """
    if runs < 1:
        raise ValueError(f"runs must be 1 or more, not {runs}")
    times: dict[str, list[float]] = {name: [] for name in calls}
    bar = progress(title, warmup + runs, "runs", shown=bool(title), quiet=True)
    with bar as advance, _no_garbage_collection():
        for _ in range(warmup):
            for call in calls.values():
                call()
            advance(1)
        for first in range(0, runs, turn):
            count = min(turn, runs - first)
            for name, call in calls.items():
                if len(calls) > 1:
                    _settle(call)
                times[name] += [_timed(call, name in watched) for _ in range(count)]
            advance(count)
    settings = {"warmup": warmup, "batch": batch, "threads": threads or len(affinity())}
    return {
        name: summarize(values, **settings, clock="gpu" if name in watched else "wall")
        for name, values in times.items()
    }


def _settle(call: Callable[[], object]) -> None:
    """Call until the threads of others are at rest."""
    start = time.perf_counter()
    while time.perf_counter() - start < REST:
        call()


def _timed(call: Callable[[], object], watched: bool) -> float:
    """Seconds of a call, as it says itself if it is watched."""
    start = time.perf_counter()
    seconds = call()
    elapsed = time.perf_counter() - start
    return float(seconds) if watched else elapsed  # type: ignore[arg-type]


def summarize(
    seconds: Sequence[float], warmup: int, batch: int, threads: int, clock: str = "wall"
) -> Latency:
    """Percentiles of times given in seconds."""
    milliseconds = 1000 * np.asarray(seconds)
    p50, p99 = np.percentile(milliseconds, (50, 99)).tolist()
    return Latency(
        p50=p50,
        p99=p99,
        mean=float(milliseconds.mean()),
        fps=1000 * batch / p50,
        runs=len(milliseconds),
        warmup=warmup,
        batch=batch,
        threads=threads,
        clock=clock,
    )


def end_to_end(
    predictor: Predictor,
    images: Sequence[Path],
    *,
    imgsz: int = 0,
    max_det: int = 300,
    runs: int = 50,
    warmup: int = 5,
    threads: int = 0,
    title: str = "",
) -> Latency:
    """Time from an image file to its boxes, one image after another, in this process.

    The thresholds are those that travel with the model, as its users have them; so is the image
    size if `imgsz` is 0. The files are taken in turn, from the first again after the last. `title`
    is that of a progress bar.

    Raises:
        DataError: there is no image, or one cannot be read.
    """
    if not images:
        raise DataError("no image to time: the list of images is empty")
    path, waiting = ImagePath([predictor], imgsz, max_det), itertools.cycle(images)
    calls = {"path": lambda: path(next(waiting))}
    return measure(calls, runs, warmup, threads=threads, title=title)["path"]


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Keep Python's collector from running inside a timed call."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
