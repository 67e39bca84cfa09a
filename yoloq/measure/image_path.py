"""The whole path of an image, from its file to its boxes: one after another, or several at once."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yoloq.base.errors import DataError
from yoloq.base.machine import affinity
from yoloq.data.images import fault, read_image
from yoloq.engines.predictor import Predictor
from yoloq.geometry.boxes import Image, letterbox
from yoloq.measure.evaluate import MAX_DET, find_boxes
from yoloq.models.heads.decode import Candidates

Picture = Image | str | Path
Run = Callable[[NDArray[np.uint8]], Sequence[NDArray[Any]]]


class ImagePath:
    """Engines with reading and letterbox before them, decoding and NMS behind.

    The thresholds are those that travel with the model. Several threads may call it: an engine is
    never in two of them.

    Args:
        predictors: loaded engines of one model that can run at once (streams); one will do.
        imgsz: image size in pixels; 0: the model's.
        max_det: boxes of an image at most.
    """

    def __init__(
        self, predictors: Sequence[Predictor], imgsz: int = 0, max_det: int = MAX_DET
    ) -> None:
        self.predictors = tuple(predictors)
        self.imgsz = imgsz
        self.max_det = max_det
        self._idle: SimpleQueue[Predictor] = SimpleQueue()
        for predictor in self.predictors:
            self._idle.put(predictor)

    def __call__(self, picture: Picture) -> Candidates:
        """Boxes of one image in its pixels, by falling score.

        Args:
            picture: an image file or uint8 (H, W, 3) RGB.

        Raises:
            DataError: a file cannot be read as an image, or an array is none.
        """
        return self._boxes(picture, self._run)

    def all(self, pictures: Sequence[Picture]) -> list[Candidates]:
        """Boxes of each of several images, in their order: as many at once as there are engines.

        Meanwhile other threads read the next images and find the boxes of the former ones; OpenCV
        and the engines do not hold Python's lock. No thread outlives the call, however it ends.

        Raises:
            DataError: as for one image; of several such images the first is named.
        """
        with self.shared() as boxes_of, _threads(self.callers) as others:
            return list(others.map(boxes_of, pictures))

    @property
    def callers(self) -> int:
        """Threads that keep the engines busy: one waits for each, the others read and decode."""
        return len(self.predictors) + len(affinity())

    @contextlib.contextmanager
    def shared(self) -> Iterator[Callable[[Picture], Candidates]]:
        """Boxes of one image, for many threads to call at once; gone behind the block.

        Engines have threads of their own: torch starts a team of threads for each that calls it.
        """
        with _threads(len(self.predictors)) as engines:

            def run(images: NDArray[np.uint8]) -> Sequence[NDArray[Any]]:
                return engines.submit(self._run, images).result()

            yield lambda picture: self._boxes(picture, run)

    def _boxes(self, picture: Picture, run: Run) -> Candidates:
        model = self.predictors[0].model
        square, geometry = letterbox(_pixels(picture), self.imgsz or model.imgsz)
        raws = run(square[None])
        [found] = find_boxes(raws, model.head, [geometry], model.conf, model.iou, self.max_det)
        return found

    def _run(self, images: NDArray[np.uint8]) -> Sequence[NDArray[Any]]:
        """Raw maps by an engine that is idle, or becomes so."""
        predictor = self._idle.get()
        try:
            return predictor(images)
        finally:
            self._idle.put(predictor)


@contextlib.contextmanager
def _threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that are gone behind the block; what they have not begun by then is dropped."""
    pool = ThreadPoolExecutor(count)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _pixels(picture: Picture) -> Image:
    if isinstance(picture, np.ndarray):
        kind, shape = picture.dtype, picture.shape
        if kind != np.uint8 or picture.ndim != 3 or shape[2] != 3 or not picture.size:
            raise DataError(f"an image is {kind} {shape}: give uint8 (H, W, 3) in the order RGB")
        return picture
    if not isinstance(picture, str | Path):  # a notebook checks no types
        raise DataError(f"an image is a {type(picture).__name__}: give a file or a uint8 array")
    pixels = read_image(Path(picture))
    if pixels is None:
        raise DataError(f"{picture}: {fault(Path(picture))}; check the file")
    return pixels
