"""Ranges in training: LSQ's gradient, moving averages, what is saved computes the same."""

import copy
import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_quant import NAMES, NARROW, as_input, pictures, tiny_quantized
from torch import nn

from yoloq.models.load import fused, new_model
from yoloq.models.yolov5.layout import v6_spec
from yoloq.quant.affine import scale_and_zero_point, weight_range
from yoloq.quant.modules import QuantConv2d, quantizers
from yoloq.quant.policy import Policy, Rule
from yoloq.quant.quantized import quantize_model
from yoloq.quant.quantizer import TensorQuantizer
from yoloq.quant.spec import WEIGHT, PerChannel, PerGroup, QuantSpec, granularity_of
from yoloq.train.optimizer import make_optimizer
from yoloq.train.qat import ranges
from yoloq.train.qat.quantizers import AveragedQuantizer, FixedQuantizer, LearnedQuantizer
from yoloq.train.qat.ranges import forget, learned_steps, trainable_ranges
from yoloq.train.qat.student import make_student, settled

pytestmark = pytest.mark.usefixtures("one_thread")

Floats = NDArray[np.float64]
GROUPS = QuantSpec(granularity=PerGroup(2), narrow=True)
FOUR = QuantSpec(bits=4, granularity=PerChannel(), narrow=True)
ASYMMETRIC = QuantSpec(symmetric=False)
SPECS = [QuantSpec(), QuantSpec(bits=4), WEIGHT, FOUR, GROUPS, ASYMMETRIC]


def learned(spec: QuantSpec, x: torch.Tensor) -> LearnedQuantizer:
    """A learned quantizer that clips some of `x`."""
    old = TensorQuantizer(spec)
    low, high = weight_range(x, spec)
    old.set_range(low * 0.6, high * 0.6)
    new: LearnedQuantizer = ranges._learned(old)
    return new


def limits(quantizer: LearnedQuantizer) -> tuple[Floats, Floats, Floats]:
    """Step, qmin and qmax (after the zero-point), each of shape (channels, 1)."""
    spec, zero = quantizer.spec, quantizer.zero_point.numpy().reshape(-1, 1)
    step = quantizer.steps().detach().double().numpy().reshape(-1, 1)
    return step, spec.qmin - zero, spec.qmax - zero


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_gradients_are_those_of_lsq(spec: QuantSpec) -> None:
    random = torch.Generator().manual_seed(0)
    x = torch.randn(6, 40, generator=random).requires_grad_()
    upstream = torch.randn(6, 40, generator=random)
    quantizer = learned(spec, x.detach())
    (quantizer(x) * upstream).sum().backward()

    step, low, high = limits(quantizer)
    v, g = x.detach().double().numpy() / step, upstream.double().numpy()
    inside = (v > low) & (v < high)
    assert 0.02 < 1 - inside.mean() < 0.6, "the table must have both kinds"
    by_step = np.where(v <= low, low, np.where(v >= high, high, np.rint(v) - v))
    size = spec.granularity.channels
    if not size:
        parts, count = (g * by_step).sum(), x.numel()
    else:
        parts, count = (g * by_step).sum(1).reshape(-1, size).sum(1), 40 * size
    wanted = parts / math.sqrt(count * spec.qmax)
    np.testing.assert_allclose(quantizer.step.grad, wanted, rtol=2e-4, atol=1e-5)
    np.testing.assert_array_equal(x.grad, np.where(inside, upstream, 0))


def test_a_batch_of_activations_counts_the_elements_of_one_image() -> None:
    x = torch.randn(6, 40, generator=torch.Generator().manual_seed(0))
    found = []
    for batched in (False, True):
        quantizer = learned(QuantSpec(), x)
        quantizer.batched = batched
        quantizer(x).sum().backward()
        found.append(float(quantizer.step.grad))
    assert found[1] == pytest.approx(found[0] * math.sqrt(6), rel=1e-5)
    net = make_student(tiny_quantized(), "learned")
    batched = {n: q.batched for n, q in quantizers(net).items()}
    assert all(value == name.endswith("input_quantizer") for name, value in batched.items())


def test_gradient_of_a_step_is_the_slope_of_its_straight_through_form() -> None:
    """Finite differences of s * (clip(x / s) + rounding), where the rounding is held constant."""
    x = torch.randn(101, generator=torch.Generator().manual_seed(0))
    quantizer = learned(QuantSpec(bits=4), x)
    quantizer(x).sum().backward()
    s, values = float(quantizer.step.detach()), x.double().numpy()
    clipped = np.clip(values / s, -8, 7)
    rounding = np.rint(clipped) - clipped

    def straight(step: float) -> float:
        return float((step * (np.clip(values / step, -8, 7) + rounding)).sum())

    slope = (straight(s + 1e-6) - straight(s - 1e-6)) / 2e-6
    assert float(quantizer.step.grad) == pytest.approx(slope / math.sqrt(101 * 7), rel=1e-4)


def test_a_learned_scale_is_saved_as_it_was_used() -> None:
    for spec in SPECS:
        x = torch.randn(6, 40, generator=torch.Generator().manual_seed(1))
        quantizer = learned(spec, x)
        with torch.no_grad():
            quantizer.step.mul_(1.2345)
        plain = TensorQuantizer(spec)
        plain.set_range(*quantizer.range_of())
        assert torch.equal(plain(x), quantizer(x)), spec


def test_a_step_that_training_drives_below_zero_stays_usable() -> None:
    quantizer = learned(QuantSpec(), torch.randn(100))
    with torch.no_grad():
        quantizer.step.fill_(-1.0)
    low, high = quantizer.range_of()
    assert 0 < float(high) < 1e-5 and float(low) == -float(high)


def test_averages_keep_what_calibration_clipped() -> None:
    old = TensorQuantizer(QuantSpec())
    old.set_range(torch.tensor(-0.2), torch.tensor(1.0))
    quantizer = ranges._of_activation(old, "ema")
    assert isinstance(quantizer, AveragedQuantizer)
    quantizer(torch.tensor([-0.5, 2.0], requires_grad=True))  # 1.0 is half of the extreme
    assert quantizer.range_of()[1] == 1.0
    quantizer(torch.tensor([-8.0, 4.0], requires_grad=True))
    assert float(quantizer.range_of()[1]) == pytest.approx(1.0 + 0.01 * (8 * 0.5 - 1.0))
    before = quantizer.range_of()
    with torch.no_grad():
        quantizer(torch.tensor([100.0]))
    assert quantizer.range_of() == before, "evaluation leaves the range alone"


def test_averages_of_an_asymmetric_range_follow_both_ends() -> None:
    old = TensorQuantizer(ASYMMETRIC)
    old.set_range(torch.tensor(-0.25), torch.tensor(1.0))
    quantizer = ranges._of_activation(old, "ema")
    quantizer(torch.tensor([-0.5, 1.0], requires_grad=True))
    quantizer(torch.tensor([-0.5, 3.0], requires_grad=True))
    low, high = quantizer.range_of()
    assert (float(low), float(high)) == pytest.approx((-0.25, 1.02))


def trained(mode: str, unfused: nn.Module | None, steps: int = 3, **placement) -> tuple:
    """A student of a tiny model after some steps on noise; and what it was made from."""
    calibrated = tiny_quantized(**placement)
    net = make_student(calibrated, mode, unfused)
    start = copy.deepcopy(net)
    optimizer = make_optimizer(net, "adamw", 1e-2, 0.0, learned_steps(net), 1.0)
    x = as_input(pictures(2, seed=5))
    for _ in range(steps):
        optimizer.zero_grad()
        sum(raw.square().sum() for raw in net(x)).backward()
        forget(net)
        optimizer.step()
    return calibrated, start, net, x


PLACEMENTS = {
    "default": {},
    "all, residual, per tensor": {
        "float_head": False,
        "float_first": 0,
        "residual": "both",
        "weight": QuantSpec(narrow=True),
    },
    "4 bits in groups, asymmetric, concat": {
        "weight": QuantSpec(bits=4, granularity=PerGroup(3), narrow=True),
        "activation": ASYMMETRIC,
        "sharing": "concat",
    },
}


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("mode", ["frozen", "learned", "ema"])
def test_a_settled_student_computes_the_same(mode: str, placement: str) -> None:
    calibrated, start, net, x = trained(mode, None, **PLACEMENTS[placement])
    with torch.no_grad():
        before = calibrated.model.net(x)
        # (an asymmetric range that is derived from its scale may differ by a rounding)
        tolerance = 1e-5 if (mode, len(PLACEMENTS[placement])) == ("learned", 3) else 0
        for a, b in zip(before, start(x), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=tolerance)
        after, plain = net(x), settled(net, calibrated)
        assert not torch.equal(before[0], after[0])
        assert all(torch.equal(a, b) for a, b in zip(after, plain.model.net(x), strict=True))
    assert {type(q) for q in quantizers(plain.model.net).values()} == {TensorQuantizer}
    moved = [
        not torch.equal(old.high, new.high)
        for (name, old), new in zip(
            quantizers(calibrated.model.net).items(),
            quantizers(plain.model.net).values(),
            strict=True,
        )
        if name.endswith("input_quantizer")
    ]
    assert any(moved) == (mode != "frozen")


@pytest.mark.parametrize("mode", ["learned", "ema"])
def test_the_range_of_an_image_stays(mode: str) -> None:
    whole = {"float_first": 0, "activation": ASYMMETRIC}
    calibrated, _, net, _ = trained(mode, None, **whole)
    before = calibrated.model.net.get_submodule("model.0.conv").input_quantizer
    plain = settled(net, calibrated).model.net
    after = plain.get_submodule("model.0.conv").input_quantizer
    assert (float(after.low), float(after.high)) == (0.0, 1.0)
    assert torch.equal(before.scale, after.scale)
    other = "model.3.conv.input_quantizer"
    inner = [each.get_submodule(other) for each in (calibrated.model.net, plain)]
    assert not torch.equal(inner[0].high, inner[1].high)


def test_ranges_of_weights_follow_the_weights() -> None:
    calibrated, _, net, _ = trained("frozen", None)
    plain = settled(net, calibrated).model.net
    for module in plain.modules():
        if isinstance(module, QuantConv2d):
            low, high = weight_range(module.weight, WEIGHT)
            assert torch.equal(module.weight_quantizer.low, low)
            assert torch.equal(module.weight_quantizer.high, high)


def test_siblings_quantize_their_tensor_once(monkeypatch: pytest.MonkeyPatch) -> None:
    net = make_student(tiny_quantized(), "frozen")
    calls: list[int] = []
    real = FixedQuantizer.quantized
    monkeypatch.setattr(
        FixedQuantizer, "quantized", lambda self, x: (calls.append(id(self)), real(self, x))[1]
    )
    x = as_input(pictures(1))
    net(x)
    assert len(calls) == len(set(calls)) == 47
    forget(net)
    assert all(getattr(q, "remembered", None) is None for q in quantizers(net).values())


def test_only_the_chosen_layers_are_trained() -> None:
    calibrated = tiny_quantized()
    net = make_student(calibrated, "learned", only=("model.9", "model.2.cv1"))
    names = {name for name, parameter in net.named_parameters() if parameter.requires_grad}
    assert {name.split(".conv.")[0] for name in names} == {
        "model.2.cv1",
        "model.9.cv1",
        "model.9.cv2",
    }
    assert "model.9.cv1.conv.input_quantizer.step" in names


def test_learning_rates_of_scales_are_relative_to_their_size() -> None:
    net = make_student(tiny_quantized(), "learned")
    steps = learned_steps(net)
    groups = make_optimizer(net, "adamw", 1.0, 0.1, steps, 2.0).param_groups
    assert len(groups) == 2 + len(steps)
    for group in groups[2:]:
        (step,) = group["params"]
        assert group["factor"] == pytest.approx(
            2 * float(step.detach().norm()) / step.numel() ** 0.5
        )
        assert group["weight_decay"] == 0
    counted = sum(len(group["params"]) for group in groups)
    assert counted == sum(1 for _ in net.parameters())
    assert {g["factor"] for g in make_optimizer(net, "sgd", 1.0, 0.1, steps).param_groups[2:]} == {
        1
    }


def unfused_pair(policy: Policy) -> tuple:
    """A calibrated model and the network it was before fusing."""
    torch.manual_seed(0)
    model = new_model("yolov5", v6_spec("n", len(NAMES)) | NARROW["yolov5"], NAMES)
    for module in model.net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(-1.5, 1.5)
    unfused = copy.deepcopy(model.net)
    quantized = quantize_model(fused(model), policy)
    for name, quantizer in quantizers(quantized.model.net).items():
        if name.endswith("weight_quantizer"):
            conv = quantized.model.net.get_submodule(name.rpartition(".")[0])
            quantizer.set_range(*weight_range(conv.weight.detach(), quantizer.spec))
        else:
            quantizer.set_range(torch.tensor(-1.0), torch.tensor(2.0))
    return quantized, unfused


@pytest.mark.parametrize("mode", ["frozen", "learned"])
@pytest.mark.parametrize("granularity", ["tensor", "channel"])
def test_batch_norm_kept_computes_what_folding_does(mode: str, granularity: str) -> None:
    weight = QuantSpec(granularity=granularity_of(granularity), narrow=True)
    rules = (
        Rule("*", weight, QuantSpec()),
        Rule("model.24", None, None),
        Rule("model.0", None, None),
    )
    calibrated, unfused = unfused_pair(Policy(rules))
    net = make_student(calibrated, mode, unfused)  # type: ignore[arg-type]
    x = as_input(pictures(2, seed=5))
    with torch.no_grad():
        before, start = calibrated.model.net(x), net(x)
    assert all(torch.equal(a, b) for a, b in zip(before, start, strict=True))

    statistics = {n: b.clone() for n, b in net.named_buffers() if "running" in n}
    optimizer = make_optimizer(net, "adamw", 1e-2, 0.0)
    sum(raw.square().sum() for raw in net(x)).backward()
    forget(net)
    gamma = net.get_submodule("model.1.conv").bn.weight
    assert gamma.grad.abs().sum() > 0
    optimizer.step()
    buffers = dict(net.named_buffers())
    assert all(torch.equal(value, buffers[n]) for n, value in statistics.items())
    with torch.no_grad():
        after, plain = net(x), settled(net, calibrated).model.net(x)
    assert not torch.equal(before[0], after[0])
    assert all(torch.equal(a, b) for a, b in zip(after, plain, strict=True))


def test_range_of_a_dead_channel_stays_a_range() -> None:
    weight = torch.zeros(2, 3, 1, 1)
    weight[0] = 1
    old = TensorQuantizer(WEIGHT)
    old.set_range(*weight_range(weight, WEIGHT))
    holder = nn.Module()
    holder.conv = QuantConv2d.of(nn.Conv2d(3, 2, 1), nn.Identity(), old)
    trainable_ranges(holder, "learned")
    quantizer = holder.conv.weight_quantizer
    scale, _ = scale_and_zero_point(*quantizer.range_of(), WEIGHT)
    assert scale.tolist() == pytest.approx([1 / 127, 1.0])
    assert torch.equal(quantizer(weight), weight)
