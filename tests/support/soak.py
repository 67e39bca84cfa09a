"""The same work over and over: does memory stay flat, and is every file closed again?"""

import os
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from films import write_film
from tiny_set import TinySet

from yoloq.__main__ import main
from yoloq.data.loader import iterate
from yoloq.engines import get_engine
from yoloq.engines.predictor import any_image

EVERY = 0.005  # seconds from one look at the memory to the next
SETTLE = 1.0  # seconds
MOST_GROWTH = 4 << 20
"""Bytes between the second and the last quarter of the work, the first of which warms up.

The allocator's own steps are one or two megabytes. Half of 20,000 inferences, 5,000 frames or 50
epochs of 200 images would come to more if each of them left 1,700 bytes: a picture of the tiny set
has 12,288 as a square of 64 pixels. The short forms in the tests have 400 such halves.
"""
EPOCH = 200  # images
Work = Callable[[int], None]  # so many rounds


@dataclass(frozen=True)
class Soaked:
    """What so many rounds of some work took: bytes, and descriptors and threads that are left."""

    rounds: int
    seconds: float
    memory: int
    growth: int
    descriptors: int
    threads: int

    @property
    def faults(self) -> list[str]:
        """What is not as it should be."""
        found = [f"memory grew by {self.growth} bytes"] if self.growth > MOST_GROWTH else []
        found += [f"{self.descriptors} descriptors are left"] if self.descriptors > 0 else []
        return found + ([f"{self.threads} threads are left"] if self.threads > 0 else [])

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self) | {"seconds": round(self.seconds, 1), "faults": self.faults}


def soaked(work: Work, rounds: int) -> Soaked:
    """Do some work so often; it is called once before, for what is made once."""
    work(1)
    before, sizes, done = _held(), list[int](), threading.Event()

    def look() -> None:
        while not done.wait(EVERY):
            sizes.append(_memory())

    watcher = threading.Thread(target=look)
    watcher.start()
    began = time.perf_counter()
    try:
        work(rounds)
    finally:
        seconds = time.perf_counter() - began
        done.set()
        watcher.join()
    left = _left(before)
    second, last = (statistics.median(_quarter(sizes, number)) for number in (1, 3))
    return Soaked(rounds, seconds, int(last), int(last - second), *left)


def _quarter(sizes: Sequence[int], number: int) -> Sequence[int]:
    quarter = len(sizes) // 4
    return sizes[number * quarter : (number + 1) * quarter]


def _memory() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _held() -> tuple[int, int]:
    """Open descriptors and threads."""
    return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))


def _left(before: tuple[int, int]) -> tuple[int, int]:
    """What there is more; a thread that was waited for goes from the system a moment later."""
    until = time.perf_counter() + SETTLE
    while True:
        descriptors, threads = (now - then for now, then in zip(_held(), before, strict=True))
        if max(descriptors, threads) <= 0 or time.perf_counter() > until:
            return descriptors, threads
        time.sleep(EVERY)


def engine_work(name: str, tiny: TinySet, project: Path, rounds: int) -> Work:
    """Inferences of an engine of the run, in int8."""
    [file] = [f for f in (project / "run").glob(f"{name}-int8.*") if f.suffix != ".bin"]
    predictor = get_engine(name, "cpu").load(file, "int8", "cpu", 1)
    image = any_image(predictor.model.imgsz)

    def work(count: int) -> None:
        for _ in range(count):
            predictor(image)

    return work


def loader_work(tiny: TinySet, project: Path, rounds: int) -> Work:
    """Epochs of JPEG files that are read ahead by two threads."""
    files = [project / f"{index}.jpg" for index in range(EPOCH)]
    for index, file in enumerate(files):
        pixels = np.random.default_rng(index).integers(0, 256, (96, 128, 3), np.uint8)
        cv2.imwrite(str(file), pixels)

    def work(count: int) -> None:
        for _ in range(count):
            assert sum(len(batch.index) for batch in iterate(files, 64, 16, workers=2)) == EPOCH

    return work


def predict_work(tiny: TinySet, project: Path, rounds: int) -> Work:
    """Frames of one film, by the engine of the run."""
    film = str(write_film(project / "film.mp4", rounds))

    def work(count: int) -> None:
        flags = ("--source", film, "--limit", str(count), "--threads", "1", "--quiet")
        assert main("predict", tiny.run_flags(project, *flags)) == 0

    return work


ENGINES = ("openvino", "onnxruntime")
SOAKS: dict[str, tuple[int, Callable[[TinySet, Path, int], Work]]] = {  # rounds, and what they do
    **{f"engine-{name}": (20_000, partial(engine_work, name)) for name in ENGINES},
    "loader": (50, loader_work),
    "predict": (5_000, predict_work),
}


def soak(name: str, tiny: TinySet, project: Path, rounds: int = 0) -> Soaked:
    """One kind of work.

    Args:
        project: with a run that has both engines; files are added.
        rounds: 0: those of the long form.
    """
    usual, make = SOAKS[name]
    rounds = rounds or usual
    return soaked(make(tiny, project, rounds), rounds)
