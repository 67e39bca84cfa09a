"""Calibration by TensorRT itself (implicit INT8, 10.x alone), over the project's own images."""

import math
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from yoloq.engines.tensorrt.cache import load_cache, save_cache

CALIBRATORS = {"entropy": "IInt8EntropyCalibrator2", "minmax": "IInt8MinMaxCalibrator"}


class Feed:
    """Batches of images in a buffer on the GPU, and the calibrated ranges in a file.

    What goes wrong in here is kept in `failure`: the bindings swallow exceptions, and TensorRT
    would go on with the images that it has seen so far.

    Args:
        batches: uint8 (N, H, W, 3) with any N.
        buffer: (batch, H, W, 3) on the GPU in the type of the network's input; the images' copy.
        file: where the ranges are kept, under `key`, the hash of all that they depend on.
        ranges: tensor -> amax given by hand, which the ranges from the file are changed to.
        report: told how many images TensorRT has had so far.
    """

    def __init__(
        self,
        batches: Iterable[NDArray[np.uint8]],
        buffer: torch.Tensor,
        file: Path,
        key: str,
        ranges: Mapping[str, float],
        cancelled: threading.Event,
        report: Callable[[int], None] = lambda taken: None,
    ) -> None:
        self.batches = evenly(batches, len(buffer))
        self.buffer = buffer
        self.taken = 0
        self.file, self.key = file, key
        self.ranges = ranges
        self.cancelled = cancelled
        self.report = report
        self.failure: BaseException | None = None
        self.loaded = False

    def next(self) -> list[int] | None:
        """Address of the next batch on the GPU; None where there is none."""
        try:
            images = None if self.cancelled.is_set() else next(self.batches, None)
            if images is None:
                return None
            self.buffer.copy_(torch.from_numpy(images))
            if self.buffer.is_cuda:  # TensorRT reads it on a stream of its own
                torch.cuda.synchronize(self.buffer.device)
            self.taken += len(images)
            self.report(self.taken)
            return [self.buffer.data_ptr()]
        except BaseException as error:
            self.failure = error
            return None

    def load(self) -> bytes | None:
        """The calibration table of the same images, network and version, with `ranges` in it."""
        table = load_cache(self.file, self.key)
        self.loaded = table is not None
        return None if table is None else with_ranges(table, self.ranges)

    def save(self, table: bytes) -> None:
        """Keep a calibration table, unless it is of a part of the images or came from `load`.

        That one has `ranges` in it, which the key says nothing of.
        """
        try:
            if self.failure is None and not self.loaded and not self.cancelled.is_set():
                save_cache(self.file, self.key, table)
        except BaseException as error:
            self.failure = error


def evenly(batches: Iterable[NDArray[np.uint8]], size: int) -> Iterator[NDArray[np.uint8]]:
    """Batches of just `size` images: the network's input is that large.

    The last is filled up with the images that came first, so that every image counts.
    """
    first: list[NDArray[np.uint8]] = []
    waiting: list[NDArray[np.uint8]] = []
    for images in (image for batch in batches for image in batch):
        if len(first) < size:
            first.append(images)
        waiting.append(images)
        if len(waiting) == size:
            yield np.stack(waiting)
            waiting = []
    if waiting:
        missing = size - len(waiting)
        filled = waiting + first * math.ceil(missing / len(first))
        yield np.stack(filled[:size])


def with_ranges(table: bytes, ranges: Mapping[str, float]) -> bytes:
    """A calibration table in which tensors have ranges given by hand.

    A line is a tensor and its scale, amax / 127, as the hexadecimal digits of a big-endian float32
    (the calibration file of NVIDIA's sampleINT8).
    """
    lines = []
    for line in table.decode().splitlines(keepends=True):
        name, separator, _ = line.rpartition(": ")
        if separator and name in ranges:
            line = f"{name}: {struct.pack('>f', ranges[name] / 127).hex()}\n"
        lines.append(line)
    return "".join(lines).encode()


def calibrator(trt: ModuleType, kind: str, feed: Feed) -> Any:
    """A calibrator of TensorRT 10.x that reads from a feed; `kind` is one of `CALIBRATORS`."""
    base: Any = getattr(trt, CALIBRATORS[kind])

    class Calibrator(base):  # type: ignore[misc]
        def __init__(self) -> None:
            base.__init__(self)  # not super(): the bindings ask for it
            self.feed = feed  # which holds the buffer that TensorRT reads

        def get_batch_size(self) -> int:
            return len(feed.buffer)

        def get_batch(self, names: list[str]) -> list[int] | None:
            return feed.next()

        def read_calibration_cache(self) -> bytes | None:
            return feed.load()

        def write_calibration_cache(self, cache: Any) -> None:
            feed.save(bytes(cache))

    return Calibrator()
