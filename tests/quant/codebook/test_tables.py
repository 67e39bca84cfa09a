"""Tables of entries: k-means, entries with their errors carried on, tables fitted to the output."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from yoloq.quant.codebook import BookSpec
from yoloq.quant.codebook.carried import carried
from yoloq.quant.codebook.coded import Coded, in_half, looked_up, summed_up
from yoloq.quant.codebook.kmeans import kmeans, nearest
from yoloq.quant.codebook.refit import refitted

pytestmark = pytest.mark.usefixtures("one_thread")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("bits", "per", "dim", "reason"),
    [
        (0, "layer", 1, "0 bits a weight, 1 weights an entry"),
        (9, "layer", 1, "9 bits a weight"),
        (5, "layer", 2, "5 bits a weight, 2 weights an entry"),
        (4, "channel", 2, "need a codebook per layer"),
        (2, "layer", 3, r"3 weights an entry: not one of \(1, 2, 4, 8\)"),
        (4, "tensor", 1, "per 'tensor': not one of layer, channel"),
    ],
)
def test_a_spec_that_nothing_can_store(bits: int, per: str, dim: int, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        BookSpec(bits, per, dim)


def test_a_channel_whose_table_is_larger_than_its_numbers_has_none_of_its_own() -> None:
    spec = BookSpec(4, "channel")  # a table of 16 halves has 256 bits: as many as 64 numbers
    assert spec.tables(8, 64) == 8
    assert spec.tables(8, 63) == 1
    assert BookSpec(4, "layer").tables(8, 9000) == 1
    assert (spec.entries, BookSpec(2, "layer", 4).entries) == (16, 256)


def test_weights_are_looked_up_in_the_table_of_their_channel() -> None:
    numbers = torch.tensor([[0, 1, 1], [1, 0, 1]])
    own = torch.tensor([[[1.0], [2.0]], [[30.0], [40.0]]])
    np.testing.assert_array_equal(looked_up(own, numbers), [[1, 2, 2], [40, 30, 40]])
    pairs = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    want = [[1, 2, 3, 4, 3, 4], [3, 4, 1, 2, 3, 4]]
    np.testing.assert_array_equal(looked_up(pairs, numbers), want)
    coded = Coded(pairs, numbers, torch.Size([2, 5, 1, 1]))
    np.testing.assert_array_equal(coded.weight[:, :, 0, 0], [row[:5] for row in want])


def test_sums_are_taken_over_the_places_of_an_entry() -> None:
    numbers, values = torch.tensor([[0, 1], [1, 1]]), torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 8]])
    pairs, own = torch.zeros(1, 2, 2), torch.zeros(2, 2, 2)
    np.testing.assert_array_equal(summed_up(values, pairs, numbers), [[[1, 2], [15, 18]]])
    want = [[[1, 2], [3, 4]], [[0, 0], [12, 14]]]
    np.testing.assert_array_equal(summed_up(values, own, numbers), want)


def test_entries_have_16_bits_where_those_can_hold_them() -> None:
    assert in_half(torch.tensor([1.0, -3.14159])).dtype == torch.half
    large = torch.tensor([1.0, 1e6])
    assert torch.equal(in_half(large), large)


def test_kmeans_finds_groups_of_points_in_each_table() -> None:
    points = torch.tensor([[0.0, 0.1, 5.0, 5.2, 9.0], [-1.0, -1.0, 2.0, 7.0, 7.2]])[..., None]
    found = kmeans(points, torch.ones(2, 5), 3, seeded())
    want = [[0.05, 5.1, 9.0], [-1.0, 2.0, 7.1]]
    np.testing.assert_allclose(found[..., 0].sort(1)[0], want, atol=1e-6)
    assert nearest(points, found).shape == (2, 5)
    own = found.gather(1, nearest(points, found)[..., None])
    assert float((own - points).abs().max()) < 0.11


def test_kmeans_goes_where_the_weight_is() -> None:
    points, weights = torch.tensor([[[0.0], [1.0]]]), torch.tensor([[3.0, 1.0]])
    np.testing.assert_allclose(kmeans(points, weights, 1, seeded()), [[[0.25]]])


@pytest.mark.parametrize("seed", range(3))
def test_kmeans_of_pairs_is_near_the_best_of_all_partitions(seed: int) -> None:
    points = torch.randn(8, 2, generator=seeded(seed))
    best = min(
        sum(
            float((part - part.mean(0)).square().sum())
            for part in (points[[i for i, own in enumerate(chosen) if own == k]] for k in (0, 1))
            if len(part)
        )
        for chosen in itertools.product((0, 1), repeat=8)
    )
    tries = (kmeans(points[None], torch.ones(1, 8), 2, seeded(s)) for s in range(12))
    errors = (torch.cdist(points, found[0]).amin(1).square().sum() for found in tries)
    assert float(min(errors)) == pytest.approx(best, rel=1e-3)


@pytest.mark.parametrize("points", [torch.zeros(1, 4, 1), torch.ones(1, 2, 2)])
def test_fewer_points_than_entries_are_their_own_entries(points: Tensor) -> None:
    found = kmeans(points, torch.ones(points.shape[:2]), 8, seeded())
    assert torch.equal(found, points[:, :1].expand(1, 8, -1))


GRID = torch.tensor([[[0.0], [1.0], [2.0]]], dtype=torch.float64)


def test_columns_that_say_nothing_of_each_other_take_the_nearest_entry() -> None:
    weight = torch.tensor([[0.4, 1.6], [9.0, 0.9]], dtype=torch.float64)
    found = carried(weight, GRID, torch.eye(2, dtype=torch.float64))
    np.testing.assert_array_equal(found, [[0, 2], [2, 1]])


def test_an_error_is_carried_to_a_column_that_is_alike() -> None:
    """0.4 + 0.4 of nearly the same input is better a 0 and a 1 than two zeros."""
    moments = torch.tensor([[1.0, 0.99], [0.99, 1.0]], dtype=torch.float64)
    found = carried(torch.tensor([[0.4, 0.4]], dtype=torch.float64), GRID, moments)
    assert sorted(found[0].tolist()) == [0, 1]


def read(columns: int, samples: int = 200, seed: int = 0) -> Tensor:
    """Moments of inputs that are alike, (columns, columns)."""
    x = torch.randn(columns, samples, generator=seeded(seed), dtype=torch.float64)
    x = x + 2 * x.mean(0)
    return x @ x.T


def cost(weight: Tensor, coded: Tensor, moments: Tensor) -> float:
    error = weight - coded
    return float((error @ moments * error).sum())


@pytest.mark.parametrize("dim", [1, 2, 4])
def test_carried_entries_cost_less_in_the_output_than_nearest_ones(dim: int) -> None:
    weight = torch.randn(3, 8, generator=seeded(1), dtype=torch.float64)
    tables = torch.randn(1, 16, dim, generator=seeded(2), dtype=torch.float64)
    plain = nearest(weight.reshape(1, -1, dim), tables).view(3, -1)
    found, moments = carried(weight, tables, read(8)), read(8)
    assert found.shape == (3, 8 // dim)
    costs = [cost(weight, looked_up(tables, numbers), moments) for numbers in (found, plain)]
    assert costs[0] < costs[1]


@pytest.mark.parametrize(("count", "dim"), [(1, 1), (4, 1), (1, 2)])
def test_tables_are_the_least_squares_of_the_output(count: int, dim: int) -> None:
    weight = torch.randn(4, 12, generator=seeded(1), dtype=torch.float64)
    numbers = torch.randint(0, 3, (4, 12 // dim), generator=seeded(2))
    start, moments = torch.zeros(count, 3, dim, dtype=torch.float64), read(12)
    importance = moments.diagonal().expand_as(weight)
    found = refitted(weight, start, numbers, lambda w: w @ moments, importance)

    root = np.linalg.cholesky(moments.numpy())  # the output's error is that of weights times this
    entries = [np.zeros(start.shape) for _ in range(start.numel())]
    for index, entry in enumerate(entries):
        entry.flat[index] = 1
    made = [looked_up(torch.from_numpy(entry), numbers).numpy() @ root for entry in entries]
    matrix = np.stack([each.ravel() for each in made], 1)
    want = np.linalg.lstsq(matrix, (weight.numpy() @ root).ravel(), rcond=None)[0]
    np.testing.assert_allclose(found.flatten(), want, atol=1e-4)


def test_an_entry_that_no_weight_has_stays() -> None:
    start = torch.tensor([[[5.0], [7.0]]], dtype=torch.float64)
    weight, numbers = torch.ones(1, 2, dtype=torch.float64), torch.zeros(1, 2, dtype=torch.long)
    found = refitted(weight, start, numbers, lambda w: w, torch.ones(1, 2, dtype=torch.float64))
    np.testing.assert_allclose(found, [[[1.0], [7.0]]])
