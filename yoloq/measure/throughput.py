"""Throughput: images a second from file to boxes, with several images under way at once."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from yoloq.base.errors import DataError
from yoloq.measure.image_path import ImagePath
from yoloq.measure.latency import measure

ROUNDS = 3
LEAST = 8  # images of a round for each stream: at its beginning and its end some stand idle


@dataclass(frozen=True)
class Throughput:
    """Images a second, the median of the rounds, and how they were taken.

    `streams` is how many images can be in the engine at once, `images` are those of a round, start
    and end included; `threads` is what the caller says that the engine may use.
    """

    fps: float
    streams: int
    images: int
    rounds: int
    threads: int


def measure_throughput(
    paths: Mapping[str, ImagePath],
    images: Sequence[Path],
    *,
    runs: int = 50,
    threads: int = 0,
    title: str = "",
) -> dict[str, Throughput]:
    """Time whole paths in turn, a round of images each; the files are taken from the first on.

    Args:
        paths: by name.
        images: files; the first again after the last.
        runs: images of a round; more where there are many streams.
        threads, title: as of `measure`.

    Raises:
        DataError: there is no image, or one cannot be read.
    """
    if not images:
        raise DataError("no image to time: the list of images is empty")
    if not paths:
        return {}
    streams = {name: len(path.predictors) for name, path in paths.items()}
    count = max(runs, LEAST * max(streams.values()))
    files = list(itertools.islice(itertools.cycle(images), count))
    for name, path in paths.items():
        path.all(files[: 2 * streams[name]])  # to warm up
    calls = {name: partial(path.all, files) for name, path in paths.items()}
    found = measure(calls, ROUNDS, 0, count, threads, title, turn=1)
    return {
        name: Throughput(each.fps, streams[name], count, ROUNDS, each.threads)
        for name, each in found.items()
    }
