"""Policies as data: which rule wins, what is shared, what is refused."""

import json
from dataclasses import replace

import pytest
import torch
from tiny_quant import USUAL, as_input, pictures, tiny_model, tiny_quantized
from torch import nn

from yoloq.base.errors import PolicyError
from yoloq.quant.modules import QuantAdd, QuantConv2d, quantizers, switched
from yoloq.quant.policy import Policy, Rule, apply, conv_layers, default_policy, matches, resolve
from yoloq.quant.spec import ACTIVATION, WEIGHT, PerChannel, PerGroup, QuantSpec
from yoloq.quant.trace import trace

pytestmark = pytest.mark.usefixtures("one_thread")

ALL = Rule("*", WEIGHT, ACTIVATION)
LAYERS = ["model.0", "model.1", "model.2", "model.24"]


def placed(policy: Policy):
    net = tiny_model().net
    placement = resolve(policy, trace(net))
    apply(net, placement, policy.residual)
    return net, placement


@pytest.mark.parametrize(
    ("name", "pattern", "want"),
    [
        pytest.param("model.2.cv1.conv", "model.2.cv1.conv", True, id="itself"),
        pytest.param("model.2.cv1.conv", "model.2", True, id="around it"),
        pytest.param("model.20.cv1.conv", "model.2", False, id="no prefix of a number"),
        pytest.param("model.2.cv1.conv", "*.cv1", True, id="wildcard"),
        pytest.param("model.2.cv1.conv", "model.?", True, id="one character"),
        pytest.param("model.2.cv1.conv", "Model.2", False, id="case counts"),
    ],
)
def test_matches(name: str, pattern: str, want: bool) -> None:
    assert matches(name, pattern) is want


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        pytest.param({}, ["model.0", "model.1", "model.24"], id="default"),
        pytest.param({"float_first": 0}, ["model.24"], id="first layers too"),
        pytest.param({"float_head": False}, ["model.0", "model.1"], id="head too"),
        pytest.param({"float_first": 0, "float_head": False}, [], id="everything"),
        pytest.param(
            {"float_first": 0, "keep_float": ["model.2*.m"]}, ["model.24", "model.2*.m"], id="more"
        ),
    ],
)
def test_default_policy(options: dict, kept: list[str]) -> None:
    policy = default_policy(LAYERS, **USUAL | options)
    assert policy.rules == (ALL, *(Rule(pattern, None, None) for pattern in kept))


def test_layers_that_hold_convolutions() -> None:
    # 11, 12, 15, 16, 19 and 22 resize or concatenate
    numbers = [*range(11), 13, 14, 17, 18, 20, 21, 23, 24]
    assert conv_layers(tiny_model().net) == [f"model.{number}" for number in numbers]


def test_float_layers_of_the_default_policy() -> None:
    net, placement = placed(default_policy(conv_layers(tiny_model().net), **USUAL))
    head = ["model.24.m.0", "model.24.m.1", "model.24.m.2"]
    assert sorted(placement.float_layers) == ["model.0.conv", "model.1.conv", *head]
    plain = [n for n, m in net.named_modules() if type(m) is nn.Conv2d]
    assert sorted(plain) == sorted(placement.float_layers)
    assert sum(isinstance(module, QuantConv2d) for module in net.modules()) == 55


def test_more_first_layers_than_there_are_leaves_all_in_float() -> None:
    net = tiny_model().net
    policy = default_policy(conv_layers(net), float_head=True, float_first=99)
    assert len(resolve(policy, trace(net)).float_layers) == 60


def test_later_rule_wins() -> None:
    four = QuantSpec(bits=4, granularity=PerChannel(), narrow=True)
    rules = (ALL, Rule("model.2", None, None), Rule("model.2.cv3", four, ACTIVATION, "max"))
    _, placement = placed(Policy(rules))
    assert placement.layers["model.2.cv1.conv"].quantized is False
    assert placement.layers["model.2.cv3.conv"].weight == four
    assert placement.layers["model.2.cv3.conv"].calibrator == "max"
    assert placement.layers["model.3.conv"].weight == WEIGHT


def test_unmatched_convolutions_stay_in_float() -> None:
    _, placement = placed(Policy((Rule("model.9", WEIGHT, ACTIVATION),)))
    assert len(placement.float_layers) == 58


@pytest.mark.parametrize(
    ("pattern", "near"),
    [
        pytest.param("model.24.n.0", "model.24.m.0", id="typing error"),
        pytest.param("model.11", "model.1", id="a layer without convolutions"),
        pytest.param("zzz", "model.0", id="nothing alike"),
    ],
)
def test_pattern_without_a_match_lists_near_names(pattern: str, near: str) -> None:
    with pytest.raises(PolicyError, match=r"matches no convolution; near names: ") as caught:
        placed(Policy((ALL, Rule(pattern, None, None))))
    assert near in str(caught.value).split("near names: ")[1].split(", ")
    assert repr(pattern) in str(caught.value)


def test_siblings_share_one_quantizer_object() -> None:
    net, _ = placed(Policy((ALL,)))
    first, second = (net.get_submodule(f"model.2.cv{i}.conv") for i in (1, 2))
    assert first.input_quantizer is second.input_quantizer
    assert first.weight_quantizer is not second.weight_quantizer
    assert net.get_submodule("model.3.conv").input_quantizer is not first.input_quantizer
    assert len(quantizers(net)) == 60 + 50


def test_concat_sharing_spans_layers() -> None:
    policy = default_policy(conv_layers(tiny_model().net), **USUAL, sharing="concat")
    net, placement = placed(policy)
    group = ["5", "17.cv1", "17.cv2", "20.cv1", "20.cv2"]
    held = {net.get_submodule(f"model.{name}.conv").input_quantizer for name in group}
    assert len(held) == 1
    assert placement.members["model.5.conv"] == tuple(f"model.{name}.conv" for name in group)


def test_siblings_of_other_specs_do_not_share() -> None:
    asymmetric = QuantSpec(symmetric=False)
    net, _ = placed(Policy((ALL, Rule("model.2.cv2", WEIGHT, asymmetric))))
    first, second = (net.get_submodule(f"model.2.cv{i}.conv") for i in (1, 2))
    assert first.input_quantizer is not second.input_quantizer
    assert second.input_quantizer.spec == asymmetric


@pytest.mark.parametrize(
    ("residual", "count"), [("none", 0), ("input", 7), ("both", 7)], ids=["none", "input", "both"]
)
def test_residual_additions(residual: str, count: int) -> None:
    net, _ = placed(Policy((ALL,), residual=residual))
    adds = {n: m for n, m in net.named_modules() if isinstance(m, QuantAdd)}
    assert len(adds) == count
    for name, add in adds.items():
        first = net.get_submodule(f"{name.removesuffix('add')}cv1.conv")
        assert add.residual_quantizer is first.input_quantizer
        assert add.both is (residual == "both")


def test_residual_of_a_float_bottleneck_stays_in_float() -> None:
    net, _ = placed(Policy((ALL, Rule("model.2.m.0.cv1", None, None)), residual="both"))
    assert not isinstance(net.get_submodule("model.2.m.0.add"), QuantAdd)
    assert isinstance(net.get_submodule("model.4.m.0.add"), QuantAdd)


def test_switched_off_the_network_is_bit_identical_to_float() -> None:
    net = tiny_quantized(float_first=0, float_head=False, residual="both").model.net
    image = as_input(pictures(1))
    with torch.inference_mode(), switched(quantizers(net).values(), enabled=False):
        for found, wanted in zip(net(image), tiny_model().net(image), strict=True):
            assert torch.equal(found, wanted)


def test_state_dict_is_that_of_the_float_network() -> None:
    net, _ = placed(Policy((ALL,), residual="both"))
    assert net.state_dict().keys() == tiny_model().net.state_dict().keys()


def test_policy_survives_json() -> None:
    four = QuantSpec(bits=4, granularity=PerGroup(8), narrow=True)
    policy = Policy(
        (ALL, Rule("model.2", four, QuantSpec(symmetric=False), "entropy"), Rule("x", None, None)),
        sharing="concat",
        residual="input",
    )
    assert Policy.from_json(json.loads(json.dumps(policy.to_json()))) == policy


def test_short_json_takes_defaults() -> None:
    found = Policy.from_json({"rules": [{"pattern": "*", "weight": {}, "activation": None}]})
    assert found == Policy((Rule("*", QuantSpec(), None),))


RULE = {"pattern": "*", "weight": None, "activation": None}


@pytest.mark.parametrize(
    "data",
    [
        pytest.param([], id="a list"),
        pytest.param({}, id="no rules"),
        pytest.param({"rules": ["*"]}, id="a rule that is a text"),
        pytest.param({"rules": [{"pattern": "*"}]}, id="half a rule"),
        pytest.param({"rules": [RULE | {"wieght": None}]}, id="unknown key of a rule"),
        pytest.param({"rules": [RULE | {"weight": {"bits": 9}}]}, id="9 bits"),
        pytest.param({"rules": [RULE | {"weight": {"bit": 8}}]}, id="unknown key of a spec"),
        pytest.param({"rules": [RULE | {"weight": {"symmetric": False}}]}, id="asymmetric weight"),
        pytest.param({"rules": [RULE | {"activation": {"granularity": "channel"}}]}, id="channels"),
        pytest.param({"rules": [RULE | {"activation": {"narrow": True}}]}, id="narrow activation"),
        pytest.param({"rules": [RULE | {"calibrator": "minmax"}]}, id="unknown calibrator"),
        pytest.param({"rules": [RULE], "sharing": "all"}, id="unknown sharing"),
        pytest.param({"rules": [RULE], "residual": True}, id="unknown residual"),
        pytest.param({"rules": [RULE], "extra": 1}, id="unknown key"),
    ],
)
def test_what_is_no_policy_is_refused_in_one_line(data: object) -> None:
    with pytest.raises(PolicyError, match="not a policy") as caught:
        Policy.from_json(data)
    assert "\n" not in str(caught.value)


def test_policy_is_a_value() -> None:
    policy = Policy((ALL,))
    assert replace(policy, sharing="concat") != policy
    assert policy == Policy((ALL,))
