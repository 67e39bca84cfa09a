"""Scales, fake quantization and its gradient, against NumPy and literals."""

import json

import numpy as np
import pytest
import torch

from yoloq.quant.affine import fake_quantize, quantize, scale_and_zero_point, weight_range
from yoloq.quant.spec import ACTIVATION, WEIGHT, PerChannel, PerGroup, QuantSpec, granularity_of

ASYMMETRIC = QuantSpec(symmetric=False)


def zero(scale: torch.Tensor) -> torch.Tensor:
    return torch.zeros(scale.shape, dtype=torch.int32)


def ties(scale: float) -> torch.Tensor:
    """Values on, between and beyond all steps of a scale."""
    random = torch.Generator().manual_seed(0)
    steps = torch.arange(-600, 601) / 2 * torch.tensor(scale)
    return torch.cat([steps, torch.randn(20000, generator=random) * 60 * scale])


@pytest.mark.parametrize(
    ("spec", "qmin", "qmax"),
    [
        pytest.param(QuantSpec(), -128, 127, id="8 bits"),
        pytest.param(QuantSpec(narrow=True), -127, 127, id="8 bits narrow"),
        pytest.param(QuantSpec(bits=4), -8, 7, id="4 bits"),
        pytest.param(QuantSpec(bits=2, narrow=True), -1, 1, id="2 bits narrow"),
    ],
)
def test_integer_range(spec: QuantSpec, qmin: int, qmax: int) -> None:
    assert (spec.qmin, spec.qmax) == (qmin, qmax)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"bits": 1}, id="1 bit"),
        pytest.param({"bits": 9}, id="9 bits"),
        pytest.param({"symmetric": False, "granularity": PerChannel()}, id="asymmetric channels"),
        pytest.param({"symmetric": False, "narrow": True}, id="asymmetric and narrow"),
    ],
)
def test_spec_that_no_engine_has_is_refused(wrong: dict) -> None:
    with pytest.raises(ValueError):
        QuantSpec(**wrong)


def test_a_granularity_holds_no_size_that_it_does_not_use() -> None:
    """So that what flags say of channels is the default, whatever the size of a group is."""
    assert granularity_of("channel", 4) == granularity_of("channel", 1) == PerChannel()
    assert QuantSpec(8, granularity_of("channel", 4), narrow=True) == WEIGHT
    assert granularity_of("group", 4) == PerGroup(4) != PerGroup(3)
    with pytest.raises(ValueError, match="group size must be 1 or more"):
        PerGroup(0)
    with pytest.raises(ValueError, match="granularity 'row': not one of tensor, channel, group"):
        granularity_of("row")


@pytest.mark.parametrize(
    "spec", [WEIGHT, ACTIVATION, ASYMMETRIC, QuantSpec(4, PerGroup(3), narrow=True)], ids=str
)
def test_a_spec_comes_back_from_json(spec: QuantSpec) -> None:
    assert QuantSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


@pytest.mark.parametrize(
    ("spec", "low", "high", "scale", "zero_point"),
    [
        pytest.param(ACTIVATION, -12.7, 3.0, 0.1, 0, id="amax of the negative side"),
        pytest.param(ACTIVATION, 0.0, 25.4, 0.2, 0, id="one-sided"),
        pytest.param(QuantSpec(bits=4), -0.7, 0.7, 0.1, 0, id="4 bits"),
        pytest.param(ACTIVATION, 0.0, 0.0, 1.0, 0, id="dead"),
        pytest.param(ACTIVATION, -1e-40, 1e-40, 1.0, 0, id="scale below float32"),
        pytest.param(ASYMMETRIC, -1.0, 4.1, 0.02, -78, id="asymmetric"),
        pytest.param(ASYMMETRIC, 1.0, 5.1, 0.02, -128, id="asymmetric, widened down to 0"),
        pytest.param(ASYMMETRIC, -5.1, -1.0, 0.02, 127, id="asymmetric, widened up to 0"),
        pytest.param(ASYMMETRIC, 0.0, 0.0, 1.0, -128, id="asymmetric dead"),
    ],
)
def test_scale_and_zero_point(
    spec: QuantSpec, low: float, high: float, scale: float, zero_point: int
) -> None:
    found = scale_and_zero_point(torch.tensor(low), torch.tensor(high), spec)
    assert float(found[0]) == pytest.approx(scale, rel=1e-6)
    assert int(found[1]) == zero_point


SPECS = [
    pytest.param(ACTIVATION, -1.3, 2.9, id="symmetric"),
    pytest.param(QuantSpec(narrow=True), -1.3, 2.9, id="narrow"),
    pytest.param(QuantSpec(bits=3), -1.3, 2.9, id="3 bits"),
    pytest.param(ASYMMETRIC, -1.3, 2.9, id="asymmetric"),
    pytest.param(ASYMMETRIC, 0.4, 2.9, id="asymmetric above 0"),
    pytest.param(ACTIVATION, 0.0, 0.0, id="dead"),
]


@pytest.mark.parametrize(("spec", "low", "high"), SPECS)
def test_fake_quantize(spec: QuantSpec, low: float, high: float) -> None:
    scale, zero_point = scale_and_zero_point(torch.tensor(low), torch.tensor(high), spec)
    x = ties(float(scale))
    found = fake_quantize(x, scale, zero_point, spec)
    inverse = np.float32(1) / scale.numpy()  # in float32, as the kernels do
    integers = np.rint(x.numpy() * inverse) + zero_point.numpy()
    integers = np.clip(integers, spec.qmin, spec.qmax)
    wanted = (integers - zero_point.numpy()).astype(np.float32) * scale.numpy()
    np.testing.assert_array_equal(found, wanted)
    again = fake_quantize(found, scale, zero_point, spec)
    assert torch.equal(again, found), "fq(fq(x)) == fq(x)"
    assert fake_quantize(torch.zeros(1), scale, zero_point, spec) == 0, "zero stays zero"
    stored = quantize(x, scale, zero_point, spec)
    assert stored.dtype == torch.int8
    assert torch.equal((stored.float() - zero_point) * scale, found), "bit for bit the same values"


@pytest.mark.parametrize("spec", [ACTIVATION, ASYMMETRIC, QuantSpec(bits=4)], ids=str)
def test_fake_quantize_without_a_gradient_gives_what_torch_does(spec: QuantSpec) -> None:
    scale, zero_point = scale_and_zero_point(torch.tensor(-1.7), torch.tensor(4.2), spec)
    x = ties(float(scale))
    expected = torch.fake_quantize_per_tensor_affine(x, scale, zero_point, spec.qmin, spec.qmax)
    before = x.clone()
    assert torch.equal(fake_quantize(x, scale, zero_point, spec), expected)
    assert torch.equal(x, before), "the input is left alone"
    assert torch.equal(fake_quantize(x.requires_grad_(), scale, zero_point, spec), expected)


@pytest.mark.parametrize(
    "spec",
    [ACTIVATION, ASYMMETRIC, QuantSpec(bits=2, narrow=True), QuantSpec(bits=4)],
    ids=str,
)
@pytest.mark.parametrize(("low", "high"), [(-1.7, 4.2), (0.0, 3e-6), (-5e30, 1.0), (0.0, 0.0)])
def test_gradient_is_that_of_torchs_kernel_at_every_edge(
    spec: QuantSpec, low: float, high: float
) -> None:
    scale, zero_point = scale_and_zero_point(torch.tensor(low), torch.tensor(high), spec)
    edges = (torch.arange(-130, 131) + 0.5 - zero_point) * scale
    around = [edges]
    for direction in (-np.inf, np.inf):  # the five floats on either side of each edge
        for _ in range(5):
            around.append(torch.nextafter(around[-1], torch.tensor(direction)))
        around.append(edges)
    x = torch.cat([*around, ties(float(scale))]).requires_grad_()
    weights = torch.linspace(-1, 1, len(x))
    found = fake_quantize(x, scale, zero_point, spec)
    expected = torch.fake_quantize_per_tensor_affine(x, scale, zero_point, spec.qmin, spec.qmax)
    assert torch.equal(found, expected)
    ours, theirs = (torch.autograd.grad((y * weights).sum(), x)[0] for y in (found, expected))
    assert torch.equal(ours, theirs)


def test_fake_quantize_of_channels_without_a_gradient_gives_what_torch_does() -> None:
    weight = torch.stack([ties(scale).view(-1, 1, 1) for scale in (0.003, 0.02, 1.0)])
    scale, zero_point = scale_and_zero_point(*weight_range(weight, WEIGHT), WEIGHT)
    expected = torch.fake_quantize_per_channel_affine(weight, scale, zero_point, 0, -127, 127)
    assert torch.equal(fake_quantize(weight, scale, zero_point, WEIGHT), expected)


def test_quantize_per_channel_equals_fake_quantize() -> None:
    weight = ties(0.037)[:21000].reshape(30, 700)
    scale = torch.linspace(0.001, 0.2, 30)
    found = quantize(weight, scale, zero(scale), WEIGHT).float() * scale[:, None]
    assert torch.equal(found, fake_quantize(weight, scale, zero(scale), WEIGHT))


def test_integers_of_more_than_8_bits_are_whole() -> None:
    spec, scale = QuantSpec(bits=16), torch.tensor(0.5)
    found = quantize(torch.tensor([-1e6, -300.0, 0.0, 300.0, 1e6]), scale, zero(scale), spec)
    assert found.tolist() == [-32768, -600, 0, 600, 32767]


@pytest.mark.parametrize(
    ("steps", "spec", "gradient"),
    [
        pytest.param(0.0, ACTIVATION, 1.0, id="zero"),
        pytest.param(127.4, ACTIVATION, 1.0, id="rounds to the largest integer"),
        pytest.param(127.6, ACTIVATION, 0.0, id="rounds beyond it"),
        pytest.param(-128.4, ACTIVATION, 1.0, id="rounds to the smallest integer"),
        pytest.param(-128.6, ACTIVATION, 0.0, id="rounds below it"),
        pytest.param(-127.6, WEIGHT, 0.0, id="narrow ends one step earlier"),
        pytest.param(-127.4, WEIGHT, 1.0, id="narrow, within"),
    ],
)
def test_straight_through_gradient(steps: float, spec: QuantSpec, gradient: float) -> None:
    scale = torch.tensor(0.05)
    x = (steps * scale).clone().requires_grad_()
    fake_quantize(x, scale, zero(scale), spec).backward()
    assert float(x.grad) == gradient
    row = (steps * scale).reshape(1, 1).clone().requires_grad_()
    fake_quantize(row, scale[None], zero(scale[None]), spec).sum().backward()
    assert float(row.grad) == gradient, "the same per channel"


def test_one_channel_per_channel_equals_per_tensor() -> None:
    weight = torch.randn(1, 8, 3, 3, generator=torch.Generator().manual_seed(0))
    found = []
    for spec in (WEIGHT, QuantSpec(narrow=True)):
        scale, zero_point = scale_and_zero_point(*weight_range(weight, spec), spec)
        found.append(fake_quantize(weight, scale, zero_point, spec))
    assert torch.equal(*found)


@pytest.mark.parametrize(
    ("spec", "low", "high"),
    [
        pytest.param(QuantSpec(), -6, 9, id="tensor"),
        pytest.param(QuantSpec(8, PerChannel()), [-1, -6, 0, 3, 0], [2, 4, 0, 9, 1], id="ch"),
        pytest.param(
            QuantSpec(granularity=PerGroup(2)),
            [-6, -6, 0, 0, 0],
            [4, 4, 9, 9, 1],
            id="groups of 2, the last shorter",
        ),
        pytest.param(QuantSpec(granularity=PerGroup(9)), [-6] * 5, [9] * 5, id="one group"),
    ],
)
def test_weight_range(spec: QuantSpec, low: object, high: object) -> None:
    weight = torch.tensor([[-1.0, 2], [4, -6], [0, 0], [3, 9], [0, 1]]).reshape(5, 2, 1, 1)
    found = weight_range(weight, spec)
    assert [edge.tolist() for edge in found] == [low, high]
