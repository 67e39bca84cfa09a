"""Every calibrator on distributions whose answer is known."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from yoloq.quant.calibrators import (
    CALIBRATORS,
    calibrate_ema,
    calibrate_entropy,
    calibrate_max,
    calibrate_mse,
    calibrate_percentile,
)
from yoloq.quant.observer import BINS
from yoloq.quant.spec import QuantSpec
from yoloq.quant.statistics import Statistics

SYMMETRIC = QuantSpec()
ASYMMETRIC = QuantSpec(symmetric=False)


def histogram(
    low: float, high: float, counts: np.ndarray, means: tuple = (0.0,), deviations: tuple = (1.0,)
) -> Statistics:
    return Statistics(
        low, high, counts, np.array(means, np.float32), np.array(deviations, np.float32)
    )


def normal(bound: float = 8.0, total: float = 1e9) -> Statistics:
    """N(0, 1) cut at +-bound, by its distribution function."""
    edges = np.linspace(-bound, bound, BINS + 1)
    below = np.array([0.5 * (1 + math.erf(edge / math.sqrt(2))) for edge in edges])
    return histogram(-bound, bound, np.rint(np.diff(below) * total).astype(np.int64))


def spikes(low: float, high: float, at: dict[float, int]) -> Statistics:
    """Counts at single values."""
    counts = np.zeros(BINS, np.int64)
    for value, count in at.items():
        counts[min(int((value - low) / (high - low) * BINS), BINS - 1)] += count
    return histogram(low, high, counts)


def constant(value: float) -> Statistics:
    counts = np.zeros(BINS, np.int64)
    counts[BINS // 2] = 100
    return histogram(value, value, counts, (value,), (0.0,))


def amax(edges: tuple[float, float]) -> float:
    return max(abs(edge) for edge in edges)


def test_max_is_exact() -> None:
    statistics = spikes(-1.2345, 7.654321, {0: 1000, 7.654321: 1})
    assert calibrate_max(statistics, SYMMETRIC) == (-1.2345, 7.654321)


@pytest.mark.parametrize(
    ("bits", "optimum"),
    # the clipping that minimises a uniform quantizer's error on N(0, 1), in sigmas:
    # Max (1960); table in Banner et al., "ACIQ" (2018)
    [(3, 2.15), (4, 2.55), (5, 2.93), (6, 3.28), (7, 3.61), (8, 3.92)],
)
def test_mse_finds_the_published_optimum_of_a_gaussian(bits: int, optimum: float) -> None:
    spec = QuantSpec(bits=bits)
    found = amax(calibrate_mse(normal(), spec))
    edge = found * (1 + 0.5 / spec.qmax)  # what rounds to the last integer ends half a step later
    assert edge == pytest.approx(optimum, abs=0.09), "tried in steps of 0.08"


def test_mse_keeps_the_extremes_of_a_uniform_distribution() -> None:
    flat = histogram(-1.0, 1.0, np.full(BINS, 100))
    assert amax(calibrate_mse(flat, SYMMETRIC)) == pytest.approx(1.0, abs=0.011)


def test_mse_clips_a_lone_outlier() -> None:
    counts = normal(4.0).counts
    wide = np.concatenate([np.zeros(BINS * 2, np.int64), counts, np.zeros(BINS * 2, np.int64)])
    wide[-1] = 1
    assert amax(calibrate_mse(histogram(-20.0, 20.0, wide), SYMMETRIC)) < 5


@pytest.mark.parametrize(
    ("spec", "at", "want"),
    [
        pytest.param(SYMMETRIC, {1.0: 9999, 9.0: 1}, (-1.0, 1.0), id="one in 10,000 is cut"),
        pytest.param(SYMMETRIC, {1.0: 9998, 9.0: 2}, (-9.0, 9.0), id="two are not"),
        pytest.param(SYMMETRIC, {-1.0: 9999, 9.0: 1}, (-1.0, 1.0), id="of |x|"),
        pytest.param(
            ASYMMETRIC, {-8.0: 1, -1.0: 10000, 2.0: 9999, 9.0: 1}, (-1.0, 2.0), id="half each end"
        ),
        pytest.param(
            ASYMMETRIC, {-8.0: 2, -1.0: 9998, 2.0: 9998, 9.0: 2}, (-8.0, 9.0), id="not more"
        ),
    ],
)
def test_percentile(spec: QuantSpec, at: dict[float, int], want: tuple[float, float]) -> None:
    found = calibrate_percentile(spikes(-10.0, 10.0, at), spec)
    assert found == pytest.approx(want, abs=20 / BINS)


def test_percentile_of_a_gaussian() -> None:
    # P(|x| > 3.8906) = 1e-4
    assert amax(calibrate_percentile(normal(), SYMMETRIC)) == pytest.approx(3.8906, abs=0.003)


def test_ema_of_three_images_worked_by_hand() -> None:
    # mean: 0, then 0.9 * 0 + 0.1 * 1 = 0.1, then 0.9 * 0.1 + 0.1 * 2 = 0.29
    # deviation: 1, then 1, then 0.9 * 1 + 0.1 * 0.5 = 0.95; eight of it are 7.6
    means, deviations = (0.0, 1.0, 2.0), (1.0, 1.0, 0.5)
    statistics = histogram(-100.0, 100.0, np.ones(BINS, np.int64), means, deviations)
    assert calibrate_ema(statistics, SYMMETRIC) == pytest.approx((-7.31, 7.89))


def test_ema_stays_within_the_extremes() -> None:
    statistics = histogram(-0.25, 3.0, np.ones(BINS, np.int64), (0.5,), (1.0,))
    assert calibrate_ema(statistics, SYMMETRIC) == (-0.25, 3.0)


def test_entropy_keeps_what_merging_cannot_change() -> None:
    # Every bin of |x| below 4 holds the same count, so clipping loses mass and merging loses none.
    flat = histogram(-4.0, 4.0, np.full(BINS, 8))
    assert amax(calibrate_entropy(flat, SYMMETRIC)) == pytest.approx(4.0)


def test_entropy_of_a_case_worked_by_hand() -> None:
    # 2048 bins of |x| in 0..16: the lower 256 hold 16 each, one outlier sits at the end. Clipping
    # behind bin 256 changes one count of 4097; any wider range leaves the outlier's level alone but
    # merges across the edge at 256, unless the levels divide it: 128 levels of 2, 4, 8, 16 bins do
    # (ends 256, 512, 1024, 2048), and then nothing is lost.
    counts = np.zeros(2 * 2048, np.int64)
    counts[2048 - 256 : 2048 + 256] = 8
    counts[-1] = 1
    found = amax(calibrate_entropy(histogram(-16.0, 16.0, counts), SYMMETRIC))
    assert found == 16.0


def lopsided(holes: bool) -> tuple[Statistics, list[float]]:
    """Values from -2 to 16 in bins of 1/128, and the 2048 counts of |x| that they come to.

    A pile at 0, a long tail on the right, with holes or without, a short one on the left, outliers.
    """
    if holes:
        right = [int(9000 * math.exp(-i / 170)) + 3 for i in range(2048)]
        right = [0 if i > 500 and i % 3 else count for i, count in enumerate(right)]
    else:
        right = [int(200000 * math.exp(-i / 120)) + 1 for i in range(2048)]
    right[0], right[2040] = 70000, 400 if holes else 5
    left = [int(2500 * math.exp(-i / 35)) for i in range(256)]
    counts = np.array([*reversed(left), *right], np.int64)
    magnitudes = [float(r + (left[i] if i < 256 else 0)) for i, r in enumerate(right)]
    return histogram(-2.0, 16.0, counts), magnitudes


def slow_entropy(magnitudes: list[float], levels: int) -> int:
    """Bins that are kept, by the published search, a bin at a time."""
    counts = [magnitudes[1], *magnitudes[1:]]  # zeros say nothing on where to clip
    best, least = 0, math.inf
    for end in range(levels, 2048 + 1, 8):
        p = counts[:end]
        q = [0.0] * end
        for level in range(levels):
            bins = [i for i in range(end) if i * levels // end == level]
            used = [i for i in bins if p[i] > 0]
            for i in used:
                q[i] = sum(p[k] for k in bins) / len(used)
        p[-1] += sum(counts[end:])
        total, spread = sum(p), max(sum(q), 1e-12)
        pairs = [(a / total, b / spread) for a, b in zip(p, q, strict=True) if a > 0]
        divergence = sum(a * math.log(a / max(b, 1e-12)) for a, b in pairs)
        if divergence < least:
            best, least = end, divergence
    return best


@pytest.mark.parametrize(
    ("bits", "holes", "bins"), [(8, False, 1376), (5, True, 1024), (4, True, 808), (3, True, 604)]
)
def test_entropy_of_a_lopsided_histogram(bits: int, holes: bool, bins: int) -> None:
    statistics, magnitudes = lopsided(holes)
    low, high = calibrate_entropy(statistics, QuantSpec(bits=bits))
    assert slow_entropy(magnitudes, 2 ** (bits - 1)) == bins
    assert high == pytest.approx(bins / 128) and low == -2.0


def test_entropy_clips_the_tail_of_a_gaussian() -> None:
    assert 3.0 < amax(calibrate_entropy(normal(), SYMMETRIC)) < 6.0


def test_entropy_does_not_alias() -> None:
    # The same half-gaussian in bins that do and do not fit those of |x|: the bound hardly moves.
    full = normal()
    half = histogram(0.0, 8.0, normal().counts.reshape(2, -1)[1])
    edges = np.linspace(-0.3, 8.0, BINS + 1)
    below = np.array([math.erf(max(edge, 0.0) / math.sqrt(2)) for edge in edges])
    shifted = histogram(-0.3, 8.0, np.rint(np.diff(below) * 1e9).astype(np.int64))
    found = [amax(calibrate_entropy(item, SYMMETRIC)) for item in (full, half, shifted)]
    assert max(found) - min(found) <= 0.1 * found[0]


@pytest.mark.parametrize("name", CALIBRATORS)
@pytest.mark.parametrize("spec", [SYMMETRIC, ASYMMETRIC], ids=["symmetric", "asymmetric"])
@pytest.mark.parametrize("value", [0.0, 0.1, -3.7])
def test_constant_tensor(name: str, spec: QuantSpec, value: float) -> None:
    low, high = CALIBRATORS[name](constant(value), spec)
    assert low <= high
    assert amax((low, high)) == pytest.approx(abs(value), rel=0.02)


@pytest.mark.parametrize("name", CALIBRATORS)
@pytest.mark.parametrize("spec", [SYMMETRIC, ASYMMETRIC], ids=["symmetric", "asymmetric"])
def test_range_lies_within_the_extremes(name: str, spec: QuantSpec) -> None:
    statistics = spikes(-0.28, 12.0, {-0.28: 3, 0.0: 4000, 1.5: 900, 6.0: 90, 12.0: 7})
    low, high = CALIBRATORS[name](statistics, spec)
    assert -0.28 <= low <= 0 < high <= 12.0


def weighted(low: float, high: float) -> Statistics:
    """Mostly a background about 0, a few values to 10; influence evenly from low to high."""
    seen = spikes(-1.0, 10.0, {-0.5: 10**6, 0.0: 10**6, 0.3: 10**6, 9.9: 1})
    places = np.linspace(-1.0, 10.0, 1100)
    return replace(seen, influence=((low <= places) & (places < high)).astype(float))


def test_places_covers_the_values_on_which_boxes_depend() -> None:
    """Of them 6.5 is the largest and -0.5 the lowest; what lies beyond is clipped."""
    seen = weighted(-0.5, 6.5)
    low, high = CALIBRATORS["places"](seen, ASYMMETRIC)
    assert -0.55 <= low <= -0.45
    assert 6.4 <= high <= 6.7
    assert 6.4 <= amax(CALIBRATORS["places"](seen, SYMMETRIC)) <= 6.7


def test_places_is_mse_where_no_box_depends_on_the_tensor() -> None:
    for seen in (weighted(0.0, 0.0), normal()):
        assert CALIBRATORS["places"](seen, ASYMMETRIC) == calibrate_mse(seen, ASYMMETRIC)


def test_ema_of_a_constant_survives_rounding() -> None:
    # a mean in float32 may lie outside the extremes
    statistics = histogram(0.1, 0.1, np.ones(BINS, np.int64), (np.float32(0.10000001),), (0.0,))
    assert calibrate_ema(statistics, SYMMETRIC) == (0.1, 0.1)


def rounded(x: float, low: float, high: float, spec: QuantSpec) -> float:
    """One value there and back, worked out by itself."""
    if spec.symmetric:
        scale, zero = max(-low, high) / spec.qmax, 0
    else:
        scale = (high - low) / (2**spec.bits - 1)
        zero = round(-(2 ** (spec.bits - 1)) - low / scale)
    steps = min(max(round(x / scale) + zero, spec.qmin), spec.qmax)
    return (steps - zero) * scale


TAILED = {-0.28: 700, -0.1: 4000, 0.3: 900, 1.1: 60, 2.7: 12, 5.2: 3, 12.0: 1}


def total(power: float, low: float, high: float, spec: QuantSpec, at: dict[float, int]) -> float:
    """Sum of |error|^power over values of a histogram, each in the middle of its bin."""
    width = 12.28 / BINS
    middles = {(min(int((x + 0.28) / width), BINS - 1) + 0.5) * width - 0.28: x for x in at}
    return sum(at[x] * abs(m - rounded(m, low, high, spec)) ** power for m, x in middles.items())


FOUR = [QuantSpec(4), QuantSpec(4, symmetric=False)]


@pytest.mark.parametrize("spec", FOUR, ids=["symmetric", "asymmetric"])
def test_mse_onesided_tries_every_top_and_leaves_the_lower_end(spec: QuantSpec) -> None:
    tops = [0.12 * part for part in range(1, 101)]
    best = min(tops, key=lambda top: total(2, -0.28, top, spec, TAILED))
    assert best < 11
    low, high = CALIBRATORS["mse-onesided"](spikes(-0.28, 12.0, TAILED), spec)
    assert low == -0.28 and high == pytest.approx(best)


def signed() -> tuple[Statistics, list[float]]:
    """2048 bins of 1/128 from -2 to 14: a pile in front of 0, behind it a long tail."""
    left = [int(3000 * math.exp((i - 255) / 60)) + 5 for i in range(256)]
    right = [int(9000 * math.exp(-i / 120)) + 1 for i in range(1792)]
    right[0], right[1780] = 70000, 400
    counts = [*left, *right]
    return histogram(-2.0, 14.0, np.array(counts, np.int64)), [float(c) for c in counts]


def slow_onesided(counts: list[float], levels_of: Callable[[float], int], first: int) -> int:
    """Bins that are kept, counted from the lower end, a bin at a time."""
    counts = counts.copy()
    counts[256] = counts[257]  # the bin of 0
    best, least = 0, math.inf
    for end in range(first, 2048 + 1, 8):
        top = end / 128 - 2
        if top <= 0:
            continue
        levels, p, q = levels_of(top), counts[:end], [0.0] * end
        runs: dict[int, list[int]] = {}
        for i in range(end):
            runs.setdefault(i * levels // end, []).append(i)
        for bins in runs.values():
            used = [i for i in bins if p[i] > 0]
            for i in used:
                q[i] = sum(p[k] for k in bins) / len(used)
        p[-1] += sum(counts[end:])
        pairs = [(a / sum(p), b / sum(q)) for a, b in zip(p, q, strict=True) if a > 0]
        divergence = sum(a * math.log(a / max(b, 1e-12)) for a, b in pairs)
        if divergence < least:
            best, least = end, divergence
    return best


@pytest.mark.parametrize(("bits", "bins"), [(3, 992), (5, 1168)])
def test_kl_onesided_of_a_signed_histogram(bits: int, bins: int) -> None:
    statistics, counts = signed()
    assert slow_onesided(counts, lambda top: 2**bits, 2**bits) == bins
    found = CALIBRATORS["kl-onesided"](statistics, QuantSpec(bits, symmetric=False))
    assert found == pytest.approx((-2.0, bins / 128 - 2))


def test_kl_onesided_has_the_levels_of_a_symmetric_range_above_its_lower_end() -> None:
    """Of 15 integers from -7 to 7 a range from -2 to 14 uses 9; to 2 it uses all."""
    statistics, counts = signed()

    def levels(top: float) -> int:
        return round((top + 2) / (max(2.0, top) / 7)) + 1

    assert (levels(14.0), levels(2.0)) == (9, 15)
    bins = slow_onesided(counts, levels, 16)
    found = CALIBRATORS["kl-onesided"](statistics, QuantSpec(4))
    assert found == pytest.approx((-2.0, bins / 128 - 2))


@pytest.mark.parametrize("name", ["mse-onesided", "kl-onesided"])
def test_where_nothing_lies_above_zero_no_end_is_moved(name: str) -> None:
    assert CALIBRATORS[name](spikes(-3.0, 0.0, {-2.0: 90, -0.1: 9}), ASYMMETRIC) == (-3.0, 0.0)


@pytest.mark.parametrize("name", ["entropy", "kl-onesided"])
def test_more_levels_than_bins_leave_the_extremes(name: str) -> None:
    wide = spikes(-0.28, 12.0, TAILED)
    assert CALIBRATORS[name](wide, QuantSpec(16)) == pytest.approx((-0.28, 12.0))


@pytest.mark.parametrize("spec", FOUR, ids=["symmetric", "asymmetric"])
@pytest.mark.parametrize("at", [0.0, 12.0], ids=["small values", "large values"])
def test_lp_takes_the_norm_whose_range_moves_the_boxes_least(spec: QuantSpec, at: float) -> None:
    ratios = [part / 100 for part in range(100, 0, -1)]

    def best(power: int) -> float:
        return min(ratios, key=lambda r: total(power, -0.28 * r, 12 * r, spec, TAILED))

    norms = [best(power) for power in (1, 2, 3, 4, 5)]
    assert norms == sorted(norms), "a larger power clips less"
    assert norms[0] < norms[1] < norms[-1]
    influence = np.zeros(BINS)
    influence[min(int((at + 0.28) / 12.28 * BINS), BINS - 1)] = 1.0
    seen = replace(spikes(-0.28, 12.0, TAILED), influence=influence)
    low, high = CALIBRATORS["lp"](seen, spec)
    place = (np.argmax(influence) + 0.5) * 12.28 / BINS - 0.28
    want = min(norms, key=lambda r: abs(place - rounded(place, -0.28 * r, 12 * r, spec)))
    assert (low, high) == pytest.approx((-0.28 * want, 12 * want))


def test_lp_is_mse_where_no_box_depends_on_the_tensor() -> None:
    assert CALIBRATORS["lp"](normal(), SYMMETRIC) == calibrate_mse(normal(), SYMMETRIC)
