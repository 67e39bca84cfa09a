"""Errors of a layer by itself, and figures of tensors and weights, against NumPy."""

import numpy as np
import pytest
import torch
from tiny_quant import as_input, pictures, tiny_quantized
from torch import nn

from yoloq.graph.export import float_copy
from yoloq.measure.compare import SNR_LIMIT
from yoloq.quant.modules import QuantConv2d
from yoloq.quant.observer import BINS, Observer
from yoloq.quant.quantizer import TensorQuantizer
from yoloq.quant.spec import ACTIVATION, WEIGHT, QuantSpec
from yoloq.quant.statistics import Statistics
from yoloq.quant.trace import sibling_groups, trace
from yoloq.stages.diagnose.local import measure
from yoloq.stages.diagnose.tensors import activation_figures, range_snr, weight_figures

pytestmark = pytest.mark.usefixtures("one_thread")


def snr(reference: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10((reference**2).sum() / ((reference - other) ** 2).sum()))


def single(
    x: torch.Tensor, amax: float, spec: QuantSpec = ACTIVATION
) -> tuple[nn.Module, nn.Module]:
    """A network of one 1x1 convolution, float and quantized to an amax."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(x.shape[1], 4, 1))
    activation, weight = TensorQuantizer(spec), TensorQuantizer(WEIGHT)
    activation.set_range(torch.tensor(-amax), torch.tensor(amax))
    conv = plain[0]
    assert isinstance(conv, nn.Conv2d)
    low, high = conv.weight.detach().flatten(1).aminmax(dim=1)
    weight.set_range(low, high)
    return plain, nn.Sequential(QuantConv2d.of(conv, activation, weight))


def test_local_errors_are_those_of_numpy() -> None:
    x = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    amax = 1.5
    plain, quantized = single(x, amax)
    errors, _ = measure(plain, quantized, [["0"]], x.split(4), 6)
    error = errors["0"]

    values = x.numpy().astype(np.float64)
    scale = amax / 127
    read = np.clip(np.round(values / scale), -128, 127) * scale
    conv = plain[0]
    weight = conv.weight.detach().numpy()[:, :, 0, 0].astype(np.float64)  # type: ignore[index,operator]
    bias = conv.bias.detach().numpy()[None, :, None, None]  # type: ignore[union-attr]
    steps = np.abs(weight).max(1, keepdims=True) / 127
    rounded = np.clip(np.round(weight / steps), -127, 127) * steps

    def out(a: np.ndarray, w: np.ndarray) -> np.ndarray:
        return np.einsum("nchw,oc->nohw", a, w) + bias

    y = out(values, weight)
    assert error.weight == pytest.approx(snr(y, out(values, rounded)), abs=0.05)
    assert error.activation == pytest.approx(snr(y, out(read, weight)), abs=0.01)
    assert error.both == pytest.approx(snr(y, out(read, rounded)), abs=0.01)
    assert error.input == pytest.approx(snr(values, read), abs=0.01)
    beyond = (values < -128.5 * scale) | (values > 127.5 * scale)
    assert error.clipped_values == pytest.approx(beyond.mean(), abs=1e-9)
    share = ((read - values) ** 2)[beyond].sum() / ((read - values) ** 2).sum()
    assert error.clipped == pytest.approx(share, abs=1e-4)
    assert 0.5 < share < 1


def test_a_range_that_covers_everything_clips_nothing() -> None:
    x = torch.randn(2, 3, 8, 8)
    plain, quantized = single(x, float(x.abs().max()))
    error = measure(plain, quantized, [["0"]], [x], 2)[0]["0"]
    assert error.clipped == 0 and error.clipped_values == 0


def test_only_quantized_layers_have_local_errors_and_nothing_is_changed() -> None:
    quantized = tiny_quantized()
    net = quantized.model.net
    reference = float_copy(net)
    groups = sibling_groups(trace(reference))
    batch = as_input(pictures(3))
    with torch.no_grad():
        before = net(batch)
    errors, seen = measure(reference, net, groups, batch.split(2), 3)
    assert set(errors) == {n for n, plan in quantized.placement.layers.items() if plan.quantized}
    assert list(seen) == [group[0] for group in groups]
    assert len(seen["model.3.conv"].means) == 3
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(before, net(batch), strict=True))
    chosen = measure(reference, net, [], [batch], 3, layers=["model.3.conv"])[0]
    assert set(chosen) == {"model.3.conv"}


def test_a_side_in_float_has_no_error() -> None:
    x = torch.rand(2, 3, 4, 4)
    plain, quantized = single(x, 1.0)
    conv = quantized[0]  # type: ignore[index]
    conv.input_quantizer = nn.Identity()
    error = measure(plain, quantized, [], [x], 2)[0]["0"]
    assert (error.activation, error.input, error.clipped) == (SNR_LIMIT, SNR_LIMIT, 0)
    assert error.both == error.weight < 80


def test_a_tensor_with_nan_has_no_statistics() -> None:
    x = torch.rand(2, 3, 4, 4)
    plain, quantized = single(x, 1.0)
    x[0, 0, 0, 0] = float("nan")
    errors, seen = measure(plain, quantized, [["0"]], [x], 2)
    assert seen == {}
    assert errors["0"].both == -SNR_LIMIT


def observed(values: np.ndarray) -> Statistics:
    """Statistics whose sample is about 260,000 of the values."""
    observer = Observer(2**18, seed=0)
    observer(torch.from_numpy(values.astype(np.float32))[None])
    return observer.statistics()


def quantizer(amax: float, spec: QuantSpec = ACTIVATION) -> TensorQuantizer:
    made = TensorQuantizer(spec)
    made.set_range(torch.tensor(-amax), torch.tensor(amax))
    return made


def test_figures_of_an_activation_are_those_of_numpy() -> None:
    values = np.random.default_rng(0).normal(1, 2, 100_000)
    values[0] = 60.0
    found = activation_figures(observed(values), quantizer(12.0))
    assert (found.low, found.high) == pytest.approx((values.min(), 60.0))
    assert found.mean == pytest.approx(values.mean(), abs=0.02)
    assert found.deviation == pytest.approx(values.std(), abs=0.02)
    bulk = np.percentile(np.abs(values), 99.9)
    assert found.bulk == pytest.approx(bulk, rel=0.02)
    assert found.outliers == pytest.approx(60 / bulk, rel=0.02)
    assert found.amax == 12.0
    assert found.range_used == pytest.approx(bulk / 12, rel=0.02)
    codes = np.unique(np.clip(np.round(values / (12 / 127)), -128, 127))
    assert found.codes_used == pytest.approx(len(codes) / 256, abs=0.05)


@pytest.mark.parametrize(
    ("amax", "codes", "used"), [(1.0, 255 / 256, 1.0), (20.0, 13 / 256, 0.05), (0.5, 1.0, 1.0)]
)
def test_a_range_20_times_too_wide_leaves_most_codes_idle(
    amax: float, codes: float, used: float
) -> None:
    values = np.linspace(-1, 1, 200_001)
    found = activation_figures(observed(values), quantizer(amax))
    assert found.codes_used == pytest.approx(codes, abs=0.01)
    assert found.range_used == pytest.approx(used, abs=0.01)


def test_a_float_tensor_has_no_range() -> None:
    found = activation_figures(observed(np.zeros(100)))
    assert (found.amax, found.range_used, found.codes_used) == (None, 0, 0)
    assert found.outliers == 1


def test_snr_of_a_range_is_that_of_numpy() -> None:
    values = np.random.default_rng(0).uniform(-4, 4, 50_000)
    statistics = observed(values)
    read = np.clip(np.round(values / (3 / 127)), -128, 127) * (3 / 127)
    assert range_snr(statistics, (-3, 3), ACTIVATION) == pytest.approx(snr(values, read), abs=0.05)
    assert range_snr(statistics, (-80, 80), ACTIVATION) < range_snr(statistics, (-4, 4), ACTIVATION)


def test_statistics_have_as_many_bins_as_the_figures_need() -> None:
    assert BINS >= 32 * 256


def test_figures_of_a_weight() -> None:
    weight = torch.full((5, 2, 1, 1), 0.1)
    weight[3] = -10.0
    weight[1] = 0.0
    found = weight_figures(weight)
    assert (found.channel, found.dead, found.bad) == (3, (1,), 0)
    assert found.outlier == pytest.approx(100)
    assert (found.low, found.high) == pytest.approx((-10, 0.1))
    assert found.mean == pytest.approx(weight.numpy().mean())
    assert found.deviation == pytest.approx(weight.numpy().std())


def test_nan_in_a_weight_is_counted_and_is_not_dead() -> None:
    weight = torch.ones(3, 2, 1, 1)
    weight[1] = float("nan")
    weight[2, 0] = float("inf")
    found = weight_figures(weight)
    assert (found.bad, found.dead, found.outlier) == (3, (), 1.0)


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_a_weight_of_one_value_has_figures(value: float) -> None:
    found = weight_figures(torch.full((2, 1, 1, 1), value))
    assert found.outlier == 1.0
