"""Widths of each layer as a policy, by name, and what they cost."""

from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from tiny_quant import SIZE, statistics, tiny_model

from yoloq.engines.base import Defaults
from yoloq.quant.mixed.allot import Choice
from yoloq.quant.mixed.budget import budget_of
from yoloq.quant.mixed.width import EDGE, FLOAT, Width
from yoloq.quant.packed_file import packed_size
from yoloq.quant.policy import resolve
from yoloq.quant.ptq import calibrate_model
from yoloq.quant.trace import trace
from yoloq.stages.search.bits.bit_space import BitSpace, named
from yoloq.stages.search.bits.prices import sizes

pytestmark = pytest.mark.usefixtures("one_thread")

W4A8, W4A4 = Width(4, 8), Width(4, 4)
MODEL = tiny_model()
OPS = trace(MODEL.net)


def space(*widths: Width, **usual: Any) -> BitSpace:
    return BitSpace.of(MODEL.net, OPS, SIZE, widths, Defaults(**usual), "mse")


def drawn(searched: BitSpace, seed: int) -> Choice:
    """A width for each layer at random."""
    random = Random(seed)
    return {layer.name: random.choice(layer.widths) for layer in searched.layers}


@pytest.mark.parametrize("usual", [{}, {"symmetric": True}, {"sharing": "concat"}], ids=str)
def test_a_policy_gives_each_layer_its_width(usual: dict[str, Any]) -> None:
    searched = space(W4A4, W4A8, EDGE, FLOAT, **usual)
    choice = drawn(searched, 0) | {"model.0.conv": EDGE}
    plans = resolve(searched.policy(choice), OPS).layers
    for name, width in choice.items():
        plan = plans[name]
        bits = (plan.weight and plan.weight.bits, plan.activation and plan.activation.bits)
        assert bits == ((width.weight, width.activation) if width.quantized else (None, None))
    image, other = plans["model.0.conv"], next(p for p in list(plans.values())[1:] if p.activation)
    assert not image.activation.symmetric and other.activation.symmetric == bool(
        usual.get("symmetric")
    )
    assert image.calibrator == "mse"


def test_one_width_is_one_rule_and_those_of_the_edges() -> None:
    searched = space(W4A8)
    policy = searched.policy(searched.uniform(W4A8))
    assert [rule.pattern for rule in policy.rules] == [
        *("*", "model.0.conv", "model.24.m.0", "model.24.m.1", "model.24.m.2")
    ]


def test_one_width_as_ptq_places_it() -> None:
    by_default, two_in_float = (space(W4A8, float_first=n).uniform(W4A8) for n in (0, 2))
    assert by_default["model.0.conv"] == EDGE and by_default["model.1.conv"] == W4A8
    assert two_in_float["model.0.conv"] == two_in_float["model.1.conv"] == FLOAT
    assert by_default["model.24.m.1"] == two_in_float["model.24.m.1"] == FLOAT
    assert space(W4A8).everywhere(W4A8)["model.24.m.1"] == EDGE


def test_choices_have_names_of_their_own() -> None:
    searched = space(W4A8, EDGE)
    choices = [drawn(searched, seed) for seed in range(20)]
    assert len({named(choice) for choice in choices}) == 20
    assert named(choices[0]) == named(dict(choices[0]))


@pytest.mark.parametrize("seed", range(3))
def test_a_file_is_no_larger_than_planned_and_hardly_smaller(seed: int) -> None:
    searched = space(W4A4, W4A8, EDGE, FLOAT)
    inputs: Any = SimpleNamespace(model=MODEL, ops=OPS)
    planned = sizes(inputs, searched, budget_of("size=1MB"))
    for choice in (drawn(searched, seed), searched.uniform(W4A8)):
        policy = searched.policy(choice)
        real = packed_size(calibrate_model(MODEL, policy, statistics(), "max", OPS)[0])
        assert planned.whole(choice) - 3000 < real <= planned.whole(choice)
