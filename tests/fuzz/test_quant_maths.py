"""What holds of all numbers, policies and images: rounding, placement, statistics."""

import fnmatch
import functools
import itertools
from collections.abc import Sequence

import hypothesis.strategies as st
import numpy as np
import torch
from hypothesis import assume, example, given, settings
from numpy.typing import NDArray
from tiny_quant import tiny_model, tiny_quantized

from yoloq.quant.affine import fake_quantize, quantize, scale_and_zero_point
from yoloq.quant.calibrate import calibrate
from yoloq.quant.observer import Observer
from yoloq.quant.policy import Placement, Policy, Rule, resolve
from yoloq.quant.spec import ACTIVATION, BITS, WEIGHT, QuantSpec
from yoloq.quant.statistics import Statistics
from yoloq.quant.trace import Op, sibling_groups, trace

some = settings(max_examples=max(50, settings.default.max_examples))
LARGEST = 2.0**60
numbers = st.floats(-LARGEST, LARGEST, width=32, allow_subnormal=False)
specs = st.builds(QuantSpec, bits=st.sampled_from(BITS)) | st.builds(
    QuantSpec,
    bits=st.sampled_from(BITS),
    symmetric=st.just(True),
    narrow=st.booleans(),
)
asymmetric = st.builds(QuantSpec, bits=st.sampled_from(BITS), symmetric=st.just(False))


@some
@example(QuantSpec(), (0.0, 0.0), [1.0])
@example(QuantSpec(symmetric=False), (3.0, 5.0), [0.0, 4.0])
@given(specs | asymmetric, st.tuples(numbers, numbers).map(sorted), st.lists(numbers, min_size=1))
def test_rounding_to_a_range(
    spec: QuantSpec, ends: Sequence[float], values: Sequence[float]
) -> None:
    low, high = (torch.tensor(end, dtype=torch.float32) for end in ends)
    x = torch.tensor([0.0, *values, *ends], dtype=torch.float32)
    scale, zero = scale_and_zero_point(low, high, spec)
    step, shift = np.float32(scale), int(zero)
    found, integers = fake_quantize(x, scale, zero, spec), quantize(x, scale, zero, spec)
    with np.errstate(over="ignore"):
        quotients = np.rint(x.numpy() * (np.float32(1) / step)).astype(np.float64)
        wanted = np.clip(quotients + shift, spec.qmin, spec.qmax)
        assert integers.numpy().tolist() == wanted.tolist()
        assert found.tolist() == ((wanted - shift).astype(np.float32) * step).tolist()
    assert found[0] == 0, "zero stays zero"
    assert torch.equal(fake_quantize(found, scale, zero, spec), found), "once is enough"
    assert spec.symmetric <= (shift == 0) and spec.qmin <= shift <= spec.qmax
    inside = (wanted > spec.qmin) & (wanted < spec.qmax)
    off = np.abs(found.numpy().astype(np.float64) - x.numpy())
    assert (off[inside] <= 0.5001 * step + np.abs(x.numpy()[inside]) * 2.0**-22).all()
    reach = max(map(abs, ends)) if spec.symmetric else max(ends[1], 0.0) - min(ends[0], 0.0)
    steps = spec.qmax if spec.symmetric else spec.qmax - spec.qmin
    assert step == 1 or abs(step * steps - reach) <= 1e-6 * reach, "the range is what was asked for"


@some
@given(specs, st.lists(numbers, min_size=1), numbers)
def test_one_channel_is_one_tensor(spec: QuantSpec, values: list[float], amax: float) -> None:
    x, bound = torch.tensor([values], dtype=torch.float32), torch.tensor(amax)
    scale, zero = scale_and_zero_point(-bound, bound, spec)
    alone = fake_quantize(x, scale, zero, spec)
    assert torch.equal(fake_quantize(x, scale[None], zero[None], spec), alone)


@functools.cache
def ops() -> list[Op]:
    return trace(tiny_model().net)


@functools.cache
def names() -> list[str]:
    return [name for group in sibling_groups(ops()) for name in group]


def around(name: str) -> list[str]:
    """A convolution, and what it lies in: `model.2.m.0` and so on."""
    return list(itertools.accumulate(name.split("."), lambda a, b: f"{a}.{b}"))


@st.composite
def patterns(draw: st.DrawFn) -> str:
    """A convolution, a module around one, or either with a star."""
    pattern = draw(st.sampled_from(around(draw(st.sampled_from(names())))))
    if draw(st.booleans()):
        cut = draw(st.integers(0, len(pattern)))
        pattern = f"{pattern[:cut]}*"
    return pattern


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    weight = st.none() | st.just(WEIGHT) | st.builds(QuantSpec, st.sampled_from((4, 8)))
    activation = st.none() | st.just(ACTIVATION) | st.builds(QuantSpec, st.sampled_from((4, 16)))
    rules = draw(st.lists(st.builds(Rule, patterns(), weight, activation), max_size=6))
    sharing = draw(st.sampled_from(("siblings", "concat")))
    return Policy(tuple(rules), sharing, draw(st.sampled_from(("none", "input", "both"))))


def plan_of(policy: Policy, name: str) -> tuple[QuantSpec | None, QuantSpec | None]:
    """What the last rule says that names a convolution, or a module around it."""
    for rule in reversed(policy.rules):
        if any(fnmatch.fnmatchcase(each, rule.pattern) for each in around(name)):
            return rule.weight, rule.activation
    return None, None


@some
@given(policies())
def test_placement_of_any_policy(policy: Policy) -> None:
    found = resolve(policy, ops())
    assert list(found.layers) == names()
    for name, plan in found.layers.items():
        assert (plan.weight, plan.activation) == plan_of(policy, name), name
        assert name in found.members[plan.group] and plan.group == found.members[plan.group][0]
    assert sorted(sum(found.members.values(), ())) == sorted(names()), "each in one group"
    siblings = [set(group) for group in sibling_groups(ops())]
    for group in siblings:  # what reads one tensor is never parted
        assert len({found.layers[name].group for name in group}) == 1
    if policy.sharing == "siblings":
        assert [set(members) for members in found.members.values()] == siblings
    assert all(found.layers[first].activation for first in found.adds.values())
    assert bool(found.adds) <= (policy.residual != "none")
    again = resolve(Policy.from_json(policy.to_json()), ops())
    assert again == found, "nothing is lost in a file"


def ranges(placement: Placement, edges: dict[str, tuple[float, float]]) -> dict[str, list[float]]:
    """The range of each quantized input, by calibration to the extremes."""
    seen = {
        name: Statistics(*pair, np.ones(4, np.int64), *np.ones((2, 1), np.float32))
        for name, pair in edges.items()
    }
    net = tiny_quantized(policy=POLICIES[len(placement.members) < len(sibling_groups(ops()))])
    calibrate(net.model.net, placement, seen, "max")
    modules = dict(net.model.net.named_modules())
    inputs = {name: modules[name].input_quantizer for name in placement.layers}
    return {name: [float(each.low), float(each.high)] for name, each in inputs.items()}


POLICIES = {
    wide: Policy((Rule("*", WEIGHT, ACTIVATION),), s)
    for wide, s in enumerate(("siblings", "concat"))
}
edges = st.tuples(st.floats(-100, 0, width=32), st.floats(0, 100, width=32))


@some
@given(st.data(), st.booleans())
def test_a_group_has_the_widest_range_of_its_members(data: st.DataObject, wide: bool) -> None:
    placement = resolve(POLICIES[wide], ops())
    first = [group[0] for group in sibling_groups(ops())]
    drawn = dict(
        zip(
            first, data.draw(st.lists(edges, min_size=len(first), max_size=len(first))), strict=True
        )
    )
    found = ranges(placement, drawn)
    for members in placement.members.values():
        pairs = [drawn[name] for name in members if name in drawn]
        widest = [min(low for low, _ in pairs), max(high for _, high in pairs)]
        for name in members:
            assert found[name] == ([0.0, 1.0] if name == placement.image_reader else widest)


def images(seed: int, count: int) -> NDArray[np.float32]:
    random = np.random.default_rng(seed)
    return (random.normal(size=(count, 2, 5, 5)) * random.uniform(0, 9)).astype(np.float32)


@some
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 4), min_size=1, max_size=5), st.data())
def test_statistics_of_the_first_images(seed: int, sizes: list[int], data: st.DataObject) -> None:
    """Of the first ones it is as if those behind had not come."""
    x = torch.from_numpy(images(seed, sum(sizes)))
    count = data.draw(st.integers(1, len(x)))
    all_of_them, some_of_them = Observer(50, 0), Observer(50, 0)
    left = count
    for batch in x.split(sizes):
        all_of_them(batch)
        if left > 0:
            some_of_them(batch[:left])
        left -= len(batch)
    found, wanted = all_of_them.statistics(count), some_of_them.statistics()
    assert (found.low, found.high) == (float(x[:count].min()), float(x[:count].max()))
    assert (wanted.low, wanted.high) == (found.low, found.high)
    for name in ("counts", "means", "deviations"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))
    assert found.counts.sum() == 50 * count
    assume(found.low < found.high)
    assert found.centers[0] > found.low and found.centers[-1] < found.high
