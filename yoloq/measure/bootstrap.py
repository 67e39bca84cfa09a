"""Paired bootstrap over images of the difference of two models' AP50-95.

A resample is a weight per image: how often the image was drawn. The matches of a detection do not
change with the resample, so AP needs only sums of weights along the detections sorted by score. A
weight of k gives exactly what COCO's evaluation gives for k copies of the image (where two
detections of one class in an image have the same score, the order of the copies' would differ).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from yoloq.base.ranks import WHOLE, Share, by_all, in_turn
from yoloq.measure.ap import RECALLS
from yoloq.measure.match import Matches

CHUNK_BYTES = 32 << 20  # largest array of running sums
LOW, HIGH = 2.5, 97.5  # percentiles of a 95% interval

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """AP50-95 of b minus that of a, as a fraction, with its 95% percentile interval."""

    delta: float
    low: float
    high: float


def paired_bootstrap(a: Matches, b: Matches, resamples: int = 1000, seed: int = 0) -> Interval:
    """How sure the difference of two models' AP50-95 on the same images is.

    Each resample draws as many images as there are, with replacement, the same for both models.
    One without ground truth scores 0 for both.

    Raises:
        ValueError: the two are not about the same images, or nothing is to be drawn.
    """
    if a.images != b.images or not np.array_equal(a.truths, b.truths):
        raise ValueError("the two models were not scored on the same images and labels")
    return interval(resampled(a, resamples, seed), resampled(b, resamples, seed))


def resampled(
    matches: Matches, resamples: int = 1000, seed: int = 0, share: Share = WHOLE
) -> Doubles:
    """AP50-95 on the images as they are, then on each resample: (1 + resamples,).

    One that is compared with many needs this once. The same seed draws the same images. Of several
    processes each has every `world`-th figure.

    Raises:
        ValueError: nothing is to be drawn.
    """
    if resamples < 1 or not matches.images:
        raise ValueError(f"cannot draw {resamples} resamples of {matches.images} images")
    point = np.ones((1, matches.images), dtype=np.float32)
    weights = np.concatenate((point, draw(matches.images, resamples, seed)))
    return average_precision(matches, weights[share.rank :: share.world])


def resampled_by_all(matches: Matches) -> Doubles:
    """The same, of which each process that serves this one does its share."""
    [shares] = by_all(_share_of_resamples, matches)
    return joined(shares)


def _share_of_resamples(share: Share, matches: Matches) -> Iterator[Doubles]:
    yield resampled(matches, share=share)


def joined(shares: Sequence[Doubles]) -> Doubles:
    """The whole of the processes' shares, in the order of the ranks."""
    return np.array(in_turn([share.tolist() for share in shares]))


def interval(a: Doubles, b: Doubles) -> Interval:
    """Of b minus a; both are what `resampled` gives for the same images and seed."""
    low, high = np.percentile(b[1:] - a[1:], (LOW, HIGH)).tolist()
    return Interval(float(b[0] - a[0]), low, high)


def draw(images: int, resamples: int, seed: int) -> NDArray[np.float32]:
    """(resamples, images) how often each image is drawn; rows sum to `images`."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(images, np.full(images, 1 / images), resamples).astype(np.float32)


def average_precision(matches: Matches, weights: NDArray[np.float32]) -> Doubles:
    """AP50-95 (resamples,) under each row of image weights (resamples, images).

    Weights are whole numbers whose sums over all detections stay below 2**24, where float32 is
    exact. The mean is over the classes with ground truth in the resample; 0 if there is none.
    """
    total = np.zeros(len(weights))
    classes = np.zeros(len(weights))
    for index in np.flatnonzero(matches.truths.any(0)).tolist():
        truths = weights @ matches.truths[:, index].astype(np.float32)
        total += _class_precision(matches, index, weights, truths)
        classes += truths > 0
    return total / np.maximum(classes, 1)


def _class_precision(
    matches: Matches, index: int, weights: NDArray[np.float32], truths: NDArray[np.float32]
) -> Doubles:
    """AP50-95 (resamples,) of one class that has `truths` (resamples,) boxes."""
    here = slice(matches.starts[index], matches.starts[index + 1])
    image, matched, ignored = (
        matches.image[here],
        matches.matched[:, here],
        matches.ignored[:, here],
    )
    result = np.zeros(len(weights))
    useful = np.flatnonzero(matched.any(0))
    if not len(useful):
        return result
    end = useful[-1] + 1  # a detection that no match follows does not change the curve
    for part in _chunks(len(weights), end):
        share = np.ascontiguousarray(weights[part].T)
        running = share[image[:end]].cumsum(0)
        for hits, skipped in zip(matched[:, :end], ignored[:, :end], strict=True):
            at, beside = np.flatnonzero(hits), np.flatnonzero(skipped)
            found = share[image[at]].cumsum(0)
            uncounted = _prefix_sums(share[image[beside]])[np.searchsorted(beside, at)]
            result[part] += _area(found, running[at] - uncounted, truths[part])
    return result / len(matched)


def _prefix_sums(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n + 1, columns) sum of the first 0 to n rows."""
    sums = np.zeros((len(rows) + 1, rows.shape[1]), dtype=np.float32)
    rows.cumsum(0, out=sums[1:])
    return sums


def _area(
    found: NDArray[np.float32], seen: NDArray[np.float32], truths: NDArray[np.float32]
) -> Doubles:
    """COCO's 101-point area under the precision-recall curve, (resamples,).

    Rows are the true positives by falling score: `found` of them so far, among `seen` detections
    that count, both (n, resamples). A level of recall takes the best precision at or beyond it;
    between two true positives the curve has no level of its own.
    """
    precision = found / (seen.astype(np.float64) + np.spacing(1))
    best = np.maximum.accumulate(precision[::-1])[::-1]
    recall = found / np.maximum(truths.astype(np.float64), 1)
    levels = np.searchsorted(RECALLS, recall, side="right")
    return (best * np.diff(levels, axis=0, prepend=0)).sum(0) / len(RECALLS)


def _chunks(rows: int, columns: int) -> Iterator[slice]:
    """Slices of the resamples that keep an array (columns, rows) of float32 within bounds.

    None of a single resample among several: NumPy adds up a single column in another order, and a
    figure would depend on where a slice ends.
    """
    step = max(2, CHUNK_BYTES // (4 * max(columns, 1)))
    starts = list(range(0, max(rows - 1, 1), step))
    yield from map(slice, starts, [*starts[1:], rows])
