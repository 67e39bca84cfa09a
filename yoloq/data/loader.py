"""Letterboxed batches of image files, decoded by worker processes, in order."""

import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from yoloq.base.errors import DataError, UserError
from yoloq.base.machine import affinity
from yoloq.data.images import fault, read_image
from yoloq.geometry.boxes import Image, Letterbox, letterbox
from yoloq.geometry.detections import Ints


@dataclass(frozen=True)
class Batch:
    """Images of one batch, n <= batch size where the set ends or a file could not be read.

    `images` uint8 (n, imgsz, imgsz, 3) RGB, contiguous; `index` (n,) their positions in the list
    of files; `boxes` n geometries for `to_original`.
    """

    images: Image
    index: Ints
    boxes: tuple[Letterbox, ...]


Sample = tuple[int, Image | None, Letterbox | None]


def iterate(
    images: Sequence[Path],
    imgsz: int,
    batch_size: int,
    workers: int = 0,
    skipped: list[Path] | None = None,
) -> Iterator[Batch]:
    """Yield batches in the order of `images`; the only preprocessing that inference has.

    Args:
        images: image files.
        imgsz: side of the square in pixels.
        batch_size: files a batch.
        workers: processes that decode; 0 decodes in this one.
        skipped: gets the files that could not be read, in order, as their batch comes up.

    Raises:
        DataError: no image, or none that can be read.
    """
    if not images:
        raise DataError("no image to load: the list of images is empty")
    skipped = [] if skipped is None else skipped
    read = 0
    for failed, pixels, index, boxes in _loader(images, imgsz, batch_size, workers):
        skipped += [images[position] for position in failed]
        read += len(boxes)
        if boxes:
            yield Batch(np.asarray(pixels), index, boxes)
    if not read:
        raise DataError(
            f"{images[0]}: {fault(images[0])}; none of {len(images)} images can be read"
        )


def sample(images: Sequence[Path], count: int, seed: int) -> tuple[Path, ...]:
    """Draw `count` images, all of them where there are fewer, the same on every machine.

    A smaller draw with the same seed is the beginning of a larger one.

    Raises:
        DataError: nothing to draw, or nothing to draw from.
    """
    if count < 1:
        raise DataError(f"cannot draw {count} images: ask for 1 or more")
    if not images:
        raise DataError("no image to draw from: the split is empty")
    ordered = sorted(images, key=lambda file: (file.name, file.as_posix()))
    order = np.random.default_rng(seed).permutation(len(ordered))
    return tuple(ordered[position] for position in order[:count])


def check_imgsz(imgsz: int, stride: int, source: str = "--imgsz") -> int:
    """Return `imgsz` where the network's largest stride divides it.

    Raises:
        UserError: it does not; the text names its `source` and the nearest sizes that do.
    """
    if imgsz > 0 and imgsz % stride == 0:
        return imgsz
    below = max(imgsz // stride * stride, stride)
    near = f"{below}" if imgsz < stride else f"{below} or {below + stride}"
    raise UserError(f"{source} {imgsz}: must be a multiple of the stride {stride}, such as {near}")


class _Files:
    """Map-style data set of decoded and letterboxed images; picklable, as spawn wants it."""

    def __init__(self, images: Sequence[Path], imgsz: int) -> None:
        self.images = [str(file) for file in images]
        self.imgsz = imgsz

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        image = read_image(Path(self.images[index]))
        if image is None:
            return index, None, None
        return index, *letterbox(image, self.imgsz)


def _loader(images: Sequence[Path], imgsz: int, batch_size: int, workers: int) -> Any:
    from torch.utils.data import DataLoader

    workers = min(workers, len(images), len(affinity()))  # torch warns of more
    waiting = (2 * workers + 1) * batch_size * 3 * imgsz**2
    return DataLoader(
        _Files(images, imgsz),  # type: ignore[arg-type]
        batch_size=batch_size,
        num_workers=workers,
        collate_fn=_Collate(shared=workers > 0 and _shared_memory() > 2 * waiting),
        worker_init_fn=_single_threaded,
    )


def _shared_memory() -> int:
    """Free bytes of shared memory; containers often come with 64 MB of it."""
    folder = Path("/dev/shm")
    if not folder.is_dir():
        return sys.maxsize
    return shutil.disk_usage(folder).free


def _single_threaded(_: int) -> None:
    """The processes share the cores already; threads of OpenCV in each only contend."""
    import cv2

    cv2.setNumThreads(0)


class _Collate:
    """Samples -> (positions that failed, pixels, positions, geometries).

    Pixels leave a worker in shared memory, as a torch tensor, or through a pipe, as an array: the
    pipe costs the main process about 1.5 ms an image of 640 x 640 and needs no shared memory.
    """

    def __init__(self, shared: bool) -> None:
        self.shared = shared

    def __call__(self, samples: Sequence[Sample]) -> tuple[list[int], Any, Ints, Any]:
        failed = [index for index, image, _ in samples if image is None]
        good = [(i, image, box) for i, image, box in samples if image is not None]
        pixels: Any = np.stack([image for _, image, _ in good]) if good else None
        if self.shared and good:
            import torch

            pixels = torch.from_numpy(pixels)
        index = np.array([i for i, _, _ in good], dtype=np.int64)
        return failed, pixels, index, tuple(box for _, _, box in good)
