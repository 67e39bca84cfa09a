"""Layer by layer comparison against NumPy, and what is done with NaN."""

import numpy as np
import pytest
import torch
from tiny_quant import as_input, pictures, tiny_model, tiny_quantized
from torch import nn

from yoloq.graph.export import float_copy
from yoloq.measure.compare import (
    SNR_LIMIT,
    ErrorSum,
    LayerError,
    compare,
    cosine,
    decibels,
    first_below,
)
from yoloq.models.layered import LayeredNet

pytestmark = pytest.mark.usefixtures("one_thread")

INF, NAN = float("inf"), float("nan")


def error_of(*parts: tuple[list[float], list[float]]) -> LayerError:
    total = ErrorSum("x")
    for reference, other in parts:
        total.add(torch.tensor(reference), torch.tensor(other))
    return total.error()


def test_figures_are_those_of_numpy_over_all_parts() -> None:
    random = np.random.default_rng(0)
    reference = random.normal(0, 3, (6, 5, 4, 4)).astype(np.float32)
    other = reference + random.normal(0, 0.3, reference.shape).astype(np.float32)
    total = ErrorSum("x")
    for part in (slice(0, 4), slice(4, 6)):
        total.add(torch.from_numpy(reference[part]), torch.from_numpy(other[part]))
    error = total.error()
    a, b = reference.ravel().astype(np.float64), other.ravel().astype(np.float64)
    assert error.cosine == pytest.approx(a @ b / np.sqrt((a @ a) * (b @ b)), abs=1e-6)
    assert error.snr == pytest.approx(10 * np.log10((a**2).sum() / ((a - b) ** 2).sum()), abs=1e-3)
    kept = np.abs(a) > 0.01 * np.sqrt((a**2).mean())
    exact = np.median(np.abs(a - b)[kept] / np.abs(a)[kept])
    assert error.relative == pytest.approx(exact, rel=0.05)  # of a sample
    assert error.bad == 0


def test_memory_formats_do_not_matter() -> None:
    x = torch.rand(2, 3, 4, 5)
    total = ErrorSum("x")
    total.add(x, x.contiguous(memory_format=torch.channels_last))
    assert total.error().snr == SNR_LIMIT


@pytest.mark.parametrize(
    ("reference", "other", "alike", "snr"),
    [
        ([1.0, 2.0], [1.0, 2.0], 1.0, SNR_LIMIT),
        ([0.0, 0.0], [0.0, 0.0], 1.0, SNR_LIMIT),
        ([0.0, 0.0], [1.0, 0.0], 0.0, -SNR_LIMIT),
        ([1.0, 0.0], [0.0, 0.0], 0.0, 0.0),
        ([1.0, 1.0], [-1.0, -1.0], -1.0, -6.0206),
        ([3.0, 4.0], [3.0, 4.5], 0.99846, 20.0),
    ],
    ids=["same", "zeros", "only-reference-zero", "only-other-zero", "opposite", "tenth"],
)
def test_hand_made_cases(
    reference: list[float], other: list[float], alike: float, snr: float
) -> None:
    error = error_of((reference, other))
    assert error.cosine == pytest.approx(alike, abs=1e-5)
    assert error.snr == pytest.approx(snr, abs=1e-3)


@pytest.mark.parametrize(
    ("reference", "other", "counts"),
    [
        ([1.0, 2.0, 3.0], [NAN, 2.0, INF], (1, 1, 0)),
        ([NAN, 2.0, -INF], [1.0, 2.0, 3.0], (0, 0, 2)),
        ([INF, 2.0, 3.0], [INF, 2.0, 3.0], (0, 1, 1)),
        ([INF, -INF, 2.0], [1.0, 1.0, 2.0], (0, 0, 2)),
    ],
    ids=["other", "reference", "both", "sum-of-infinities"],
)
def test_what_is_not_finite_is_counted_and_left_out(
    reference: list[float], other: list[float], counts: tuple[int, int, int]
) -> None:
    error = error_of((reference, other), ([1.0], [1.1]))
    assert (error.nan, error.inf, error.reference_bad) == counts
    assert 0.99 < error.cosine <= 1
    assert 0 < error.snr < SNR_LIMIT


def test_where_nothing_is_finite_nothing_is_alike() -> None:
    error = error_of(([NAN, NAN], [1.0, 1.0]))
    assert (error.cosine, error.snr, error.bad) == (0.0, -SNR_LIMIT, 2)


def test_relative_error_leaves_negligible_references_out() -> None:
    reference = [1.0] * 50 + [1e-6] * 50
    assert error_of((reference, [x + 0.01 for x in reference])).relative == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("signal", "noise", "snr"),
    [
        (1, 0.01, 20),
        (1, 100, -20),
        (NAN, 1, -150),
        (1, NAN, -150),
        (0, 0, 150),
        (1e300, 1e-300, 150),
    ],
)
def test_decibels(signal: float, noise: float, snr: float) -> None:
    assert decibels(signal, noise) == pytest.approx(snr)


def test_cosine_of_squares() -> None:
    assert cosine(1, 1, 2) == 0  # unit vectors at a right angle
    assert cosine(4, 9, 1) == 1  # 2 and 3 in one direction


@pytest.mark.parametrize("family", ["yolov5", "ultralytics"])
def test_layers_are_compared_in_forward_order_as_hooks_on_whole_passes_would(family: str) -> None:
    quantized = tiny_quantized(family)
    net = quantized.model.net
    assert isinstance(net, LayeredNet)
    reference = float_copy(net)
    assert isinstance(reference, LayeredNet)
    batch = as_input(pictures(3, seed=5))
    errors = {e.layer: e for e in compare(reference, net, batch.split(2))}
    outputs = [capture(each, batch) for each in (reference, net)]
    assert list(errors) == list(outputs[0])
    for name, error in errors.items():
        a, b = (np.concatenate([x.ravel() for x in found[name]]) for found in outputs)
        noise = ((a - b) ** 2).sum()
        expected = 10 * np.log10((a**2).sum() / noise) if noise else SNR_LIMIT
        assert error.snr == pytest.approx(expected, abs=0.01), name
    assert errors["model.0.conv"].snr == SNR_LIMIT  # in float
    assert errors["model.3.conv"].snr < 80
    assert not net._forward_hooks and not net.model[0]._forward_hooks


def capture(net: LayeredNet, batch: torch.Tensor) -> dict[str, list[np.ndarray]]:
    """Outputs of convolutions and blocks in the order in which they are ready."""
    found: dict[str, list[np.ndarray]] = {}

    def keep(name: str, output: object) -> None:
        maps = [output] if isinstance(output, torch.Tensor) else output
        found[name] = [x.detach().double().numpy().copy() for x in maps]  # type: ignore[attr-defined]

    watched = {n: m for n, m in net.named_modules() if isinstance(m, nn.Conv2d)}
    watched |= {f"model.{index}": block for index, block in enumerate(net.model)}
    handles = [
        m.register_forward_hook(lambda _, args, y, n=n: keep(n, y)) for n, m in watched.items()
    ]
    with torch.no_grad():
        net(batch)
    for handle in handles:
        handle.remove()
    return found


def test_an_activation_in_place_does_not_spoil_the_reference() -> None:
    nets = [tiny_model().net for _ in range(2)]
    for net in nets:
        for module in net.modules():
            if isinstance(module, nn.SiLU):
                module.inplace = True
    first, second = nets
    assert isinstance(first, LayeredNet) and isinstance(second, LayeredNet)
    errors = compare(first, second, [as_input(pictures(2))])
    assert {error.snr for error in errors} == {SNR_LIMIT}


def test_no_batch_is_an_error() -> None:
    net = tiny_model().net
    assert isinstance(net, LayeredNet)
    with pytest.raises(ValueError, match="no batch"):
        compare(net, net, [])


def test_the_first_layer_below_each_threshold() -> None:
    errors = [
        LayerError("a", 0.999, 30.0, 0.0),
        LayerError("b", 0.995, 19.0, 0.0),
        LayerError("c", 0.98, 25.0, 0.0),
        LayerError("d", 0.5, 1.0, 0.0, nan=3),
    ]
    assert first_below(errors) == {"cosine": "c", "snr": "b", "finite": "d"}
    assert first_below(errors[:1]) == {"cosine": None, "snr": None, "finite": None}
