"""Letterboxed batches of image files, in order, decoded while the last ones are worked on.

By threads: OpenCV lets go of Python's lock, and the pixels stay where they are. Processes took
longer to load 158 images than no help at all: they start late, and every image is copied to them.
"""

import contextlib
import itertools
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from yoloq.base.ahead import in_order
from yoloq.base.config import MAX_IMGSZ
from yoloq.base.errors import DataError, UserError
from yoloq.base.machine import affinity
from yoloq.base.ranks import WHOLE, Share
from yoloq.data.images import fault, read_image
from yoloq.geometry.boxes import Image, Letterbox, letterbox
from yoloq.geometry.detections import Ints


@dataclass(frozen=True)
class Batch:
    """Images of one batch, n <= batch size where the set ends or a file could not be read.

    `images` uint8 (n, imgsz, imgsz, 3) RGB, contiguous; `index` (n,) their positions in the list
    of files; `boxes` n geometries for `to_original`; `number` that of the batch.
    """

    images: Image
    index: Ints
    boxes: tuple[Letterbox, ...]
    number: int


Square = tuple[Image, Letterbox]


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
        workers: threads that decode ahead; 0 decodes in the caller's.
        skipped: gets the files that could not be read, in order, as their batch comes up.

    Raises:
        DataError: no image, or none that can be read.
    """
    read = 0
    for batch in share_of_batches(images, imgsz, batch_size, workers, skipped):
        read += len(batch.index)
        yield batch
    check_read(images, read)


def check_read(images: Sequence[Path], read: int) -> None:
    """Find a list of images of which none could be read.

    Raises:
        DataError: so it is, or there is none in it.
    """
    if not images:
        raise DataError("no image to load: the list of images is empty")
    if not read:
        raise DataError(
            f"{images[0]}: {fault(images[0])}; none of {len(images)} images can be read"
        )


def share_of_batches(
    images: Sequence[Path],
    imgsz: int,
    batch_size: int,
    workers: int = 0,
    skipped: list[Path] | None = None,
    share: Share = WHOLE,
) -> Iterator[Batch]:
    """The same of a process's share of the batches, which may hold no image."""
    skipped = [] if skipped is None else skipped
    starts = share.of(range(0, len(images), batch_size))
    own = [images[start : start + batch_size] for start in starts]
    squares = _squares(list(itertools.chain(*own)), imgsz, workers, ahead=2 * batch_size)
    with contextlib.closing(squares):
        for start, files in zip(starts, own, strict=True):
            found = list(itertools.islice(squares, len(files)))
            skipped += [file for file, square in zip(files, found, strict=True) if square is None]
            good = [(start + i, *square) for i, square in enumerate(found) if square is not None]
            if good:
                index, pixels, boxes = zip(*good, strict=True)
                places = np.array(index, dtype=np.int64)
                yield Batch(np.stack(pixels), places, boxes, start // batch_size)


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
        UserError: it does not, or it is too large; the text names its `source` and sizes that fit.
    """
    if imgsz > MAX_IMGSZ:
        raise UserError(f"{source} {imgsz}: must be at most {MAX_IMGSZ} pixels; take a smaller one")
    if imgsz > 0 and imgsz % stride == 0:
        return imgsz
    below = max(imgsz // stride * stride, stride)
    near = f"{below}" if imgsz < stride else f"{below} or {below + stride}"
    raise UserError(f"{source} {imgsz}: must be a multiple of the stride {stride}, such as {near}")


def _squares(
    images: Sequence[Path], imgsz: int, workers: int, ahead: int
) -> Generator[Square | None, None, None]:
    """Images in their squares, in order; None for one that cannot be read."""
    workers = min(workers, len(images), len(affinity()))
    if not workers:
        yield from (_square(file, imgsz) for file in images)
        return
    yield from in_order(lambda file: _square(file, imgsz), images, workers, ahead)


def _square(file: Path, imgsz: int) -> Square | None:
    image = read_image(file)
    return None if image is None else letterbox(image, imgsz)
