"""Training pictures in memory, and the batches of an epoch.

Batches depend only on (seed, epoch): a run that was interrupted goes on with the same pictures.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from yoloq.base.errors import DataError
from yoloq.data.images import read_image
from yoloq.geometry.boxes import letterbox
from yoloq.geometry.detections import GroundTruth
from yoloq.train.augment import Augment, Sample, make_sample

CACHE_BYTES = 4 * 2**30  # letterboxed pictures kept in memory; beyond that they are read again


@dataclass(frozen=True)
class TrainBatch:
    """`images` uint8 (N, 3, S, S) RGB; `targets` (M, 6): image, class, x, y, w, h in 0..1."""

    images: Tensor
    targets: Tensor


@dataclass(frozen=True)
class Sizes:
    """Picture sizes: random multiples of `stride` in `low`..`high` px, then `final` at the end."""

    final: int
    low: int
    high: int
    stride: int = 32

    def pick(self, generator: np.random.Generator, settled: bool) -> int:
        """The size of one batch; `settled` epochs train at the final size."""
        steps = generator.integers(self.low // self.stride, self.high // self.stride, endpoint=True)
        return self.final if settled else int(steps) * self.stride


@dataclass
class Pictures:
    """Letterboxed training pictures with their boxes, read when first wanted, then kept.

    `files` are image files, `truth` their boxes in original pixels, `imgsz` the side in pixels.
    """

    files: Sequence[Path]
    truth: GroundTruth
    imgsz: int
    _kept: dict[int, Sample] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Sample:
        """Picture and boxes in letterboxed pixels.

        Raises:
            DataError: the file cannot be read.
        """
        if index not in self._kept:
            sample = self._read(index)
            if len(self._kept) * sample.image.nbytes >= CACHE_BYTES:
                return sample
            self._kept[index] = sample
        return self._kept[index]

    def _read(self, index: int) -> Sample:
        image = read_image(self.files[index])
        if image is None:
            raise DataError(f"{self.files[index]}: cannot be read; mend or remove this image")
        square, box = letterbox(image, self.imgsz)
        mine = (self.truth.image == index) & ~self.truth.crowd
        scale, pad = np.array(box.scale * 2), np.array((box.pad_x, box.pad_y) * 2)
        boxes = (self.truth.boxes[mine] * scale + pad).astype(np.float32)
        return Sample(square, boxes, self.truth.classes[mine])


def batches(
    pictures: Pictures,
    epoch: int,
    seed: int,
    batch_size: int,
    how: Augment,
    sizes: Sizes,
    settled: bool = False,
    count: int = 0,
) -> Iterator[TrainBatch]:
    """The shuffled, augmented batches of an epoch; a last batch that is not full is left out.

    Args:
        count: pictures of an epoch, others in each; 0: all.
    """
    generator = np.random.default_rng((seed, epoch))
    order = generator.permutation(len(pictures))[: count or None]
    for start in range(0, steps(len(order), batch_size) * batch_size, batch_size):
        size = sizes.pick(generator, settled)
        chosen = order[start : start + batch_size]
        yield collate([_one(generator, pictures, int(i), size, how) for i in chosen])


def steps(count: int, batch_size: int) -> int:
    """Batches an epoch: the full ones, or the only one."""
    return max(count // batch_size, 1)


def _one(
    generator: np.random.Generator, pictures: Pictures, index: int, size: int, how: Augment
) -> Sample:
    indices = [index]
    if generator.random() < how.mosaic:
        indices += generator.integers(0, len(pictures), 3).tolist()
    return make_sample(generator, [pictures[i] for i in indices], size, how)


def collate(samples: Sequence[Sample]) -> TrainBatch:
    """Stack samples of one size."""
    size = len(samples[0].image)
    images = np.stack([sample.image for sample in samples])
    rows = [_targets(i, sample, size) for i, sample in enumerate(samples)]
    return TrainBatch(
        torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(np.concatenate(rows))
    )


def _targets(position: int, sample: Sample, size: int) -> np.ndarray:
    """(n, 6) rows of one sample."""
    corners = sample.boxes / size
    centres, sides = (corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]
    first = np.full((len(corners), 1), position)
    rows = np.concatenate((first, sample.classes[:, None], centres, sides), 1)
    return rows.astype(np.float32)
