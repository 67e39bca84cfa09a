"""Which tensors are quantized, and how: a policy as data, resolved and applied to a network.

A policy is an ordered list of rules; each matches convolutions by name and the later rule wins.
Placement follows the backends' rules: quantizers sit on the input and the weight of a convolution
and nowhere between it and its activation; convolutions that read one tensor share one quantizer.
"""

import difflib
import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from torch import nn

from yoloq.base.errors import PolicyError
from yoloq.quant.calibrators import CALIBRATORS
from yoloq.quant.modules import QuantAdd, QuantConv2d
from yoloq.quant.quantizer import TensorQuantizer
from yoloq.quant.spec import ACTIVATION, WEIGHT, PerTensor, QuantSpec
from yoloq.quant.trace import Op, concat_groups, residual_adds, sibling_groups

Sharing = Literal["siblings", "concat"]
Residual = Literal["none", "input", "both"]
SIDES = ("weight", "activation")


@dataclass(frozen=True)
class Rule:
    """What happens to the convolutions that a pattern matches; None keeps that side in float.

    A pattern is a name with `*` and `?`; it matches a convolution or any module around it, so that
    `model.24` means all of the head. `calibrator` overrides the stage's for these inputs.

    Raises:
        ValueError: an activation's spec is not per tensor or is narrow, a weight's is asymmetric,
            the pattern is no text, or the calibrator is not known.
    """

    pattern: str
    weight: QuantSpec | None
    activation: QuantSpec | None
    calibrator: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.pattern, str):
            raise ValueError(f"pattern {self.pattern!r} is not a name")
        side = self.activation
        if side and (side.granularity != PerTensor() or side.narrow):
            raise ValueError("an activation is quantized per tensor and not narrow")
        if self.weight and not self.weight.symmetric:
            raise ValueError("a weight is quantized symmetrically")
        if self.calibrator not in (None, *CALIBRATORS):
            raise ValueError(f"calibrator {self.calibrator!r}: not one of {', '.join(CALIBRATORS)}")

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        sides = {side: spec and spec.to_json() for side in SIDES for spec in [getattr(self, side)]}
        return {"pattern": self.pattern, **sides, "calibrator": self.calibrator}


KEEP_FLOAT = Rule("*", None, None)  # what happens to a convolution that no rule matches


@dataclass(frozen=True)
class Policy:
    """Ordered rules (the later wins), and how far scales are shared.

    `sharing`: `siblings` (one quantizer for the convolutions that read one tensor) or `concat`
    (closed over Concat, MaxPool and Resize as well: TensorRT). `residual`: whether the quantizer of
    a residual branch's input also serves its Add: not at all, on the residual input, or on both.

    Raises:
        ValueError: `sharing` or `residual` is none of these.
    """

    rules: tuple[Rule, ...]
    sharing: Sharing = "siblings"
    residual: Residual = "none"

    def __post_init__(self) -> None:
        if self.sharing not in get_args(Sharing):
            raise ValueError(f"sharing {self.sharing!r}: not one of {get_args(Sharing)}")
        if self.residual not in get_args(Residual):
            raise ValueError(f"residual {self.residual!r}: not one of {get_args(Residual)}")

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        rules = [rule.to_json() for rule in self.rules]
        return {"rules": rules, "sharing": self.sharing, "residual": self.residual}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "Policy":
        """Read what `to_json` wrote.

        Raises:
            PolicyError: a key is missing or unknown, or a value is out of range.
        """
        try:
            sides = ({side: _spec(rule[side]) for side in SIDES} for rule in data["rules"])
            rules = (Rule(**{**r, **s}) for r, s in zip(data["rules"], sides, strict=True))
            return Policy(**{**data, "rules": tuple(rules)})
        except (KeyError, TypeError, ValueError) as error:
            raise PolicyError(
                f"not a policy ({type(error).__name__}: {error}): expected "
                '{"rules": [{"pattern", "weight", "activation"}], "sharing", "residual"}'
            ) from None


def _spec(data: Mapping[str, Any] | None) -> QuantSpec | None:
    return None if data is None else QuantSpec.from_json(data)


@dataclass(frozen=True)
class LayerPlan:
    """One convolution: its specs (None: float) and the group whose quantizer its input uses."""

    weight: QuantSpec | None
    activation: QuantSpec | None
    group: str
    calibrator: str | None

    @property
    def quantized(self) -> bool:
        """Both sides are integers, so that an engine can run it in int8."""
        return self.weight is not None and self.activation is not None


@dataclass(frozen=True)
class Placement:
    """A policy resolved against a network.

    `layers` has every convolution; a group is named after its first convolution. `members` lists,
    for each group, the convolutions whose input tensors the group's range must cover.
    """

    layers: dict[str, LayerPlan]
    members: dict[str, tuple[str, ...]]
    adds: dict[str, str] = field(default_factory=dict)  # Add module -> its branch's first conv

    @property
    def image_reader(self) -> str:
        """The convolution that reads the image: the first that runs."""
        return next(iter(self.layers))

    @property
    def float_layers(self) -> list[str]:
        """Convolutions that stay in float."""
        return [name for name, plan in self.layers.items() if not plan.quantized]


def matches(name: str, pattern: str) -> bool:
    """Whether a pattern names a module or one around it."""
    parts = name.split(".")
    prefixes = (".".join(parts[:end]) for end in range(1, len(parts) + 1))
    return any(fnmatch.fnmatchcase(prefix, pattern) for prefix in prefixes)


def block_of(name: str) -> str:
    """The numbered block of a module: `model.2` of `model.2.cv1.conv`."""
    return ".".join(name.split(".")[:2])


def conv_layers(net: nn.Module) -> list[str]:
    """The numbered layers of a network that hold convolutions: `model.0` to the head."""
    layers = net.get_submodule("model").named_children()
    return [
        f"model.{name}"
        for name, layer in layers
        if any(isinstance(module, nn.Conv2d) for module in layer.modules())
    ]


def default_policy(
    layers: Sequence[str],
    *,
    float_head: bool,
    float_first: int,
    weight: QuantSpec = WEIGHT,
    activation: QuantSpec = ACTIVATION,
    image: QuantSpec | None = None,
    edges: tuple[QuantSpec, QuantSpec] | None = None,
    keep_float: Sequence[str] = (),
    sharing: Sharing = "siblings",
    residual: Residual = "none",
) -> Policy:
    """Everything in int8 but the head, the first layers and what the patterns name.

    Args:
        layers: modules that hold convolutions, in order, the head last (`conv_layers`).
        float_head, float_first: whether the last and how many first layers stay in float; what is
            usual is the default of `make ptq`.
        image: of the first layer's input, which is the image; None: as of the others.
        edges: weight and activation of the first layer and of the head, where those are integers
            too; None: as of the others.
        keep_float: further names or patterns.
    """
    rules = [Rule("*", weight, activation)]
    at_edges = edges or (weight, activation)
    first = (at_edges[0], image or at_edges[1])
    for layer, specs in ((layers[0], first), (layers[-1], at_edges)):
        if specs != (weight, activation):
            rules.append(Rule(layer, *specs))
    patterns = [*layers[:float_first], *([layers[-1]] if float_head else []), *keep_float]
    kept = tuple(Rule(pattern, None, None) for pattern in patterns)
    return Policy((*rules, *kept), sharing, residual)


def resolve(policy: Policy, ops: Sequence[Op]) -> Placement:
    """Decide for every convolution of a network; `ops` is its trace (`trace.trace`).

    Raises:
        PolicyError: a pattern matches no convolution; near names are listed.
    """
    groups = sibling_groups(ops)
    names = [name for group in groups for name in group]
    chosen = {name: _last_match(policy.rules, name) for name in names}
    check_patterns((rule.pattern for rule in policy.rules), names)
    quantized = {n for n, rule in chosen.items() if rule and rule.activation and rule.weight}
    if policy.sharing == "concat":
        groups = _merge(groups, concat_groups(ops, quantized))
    group_of = {name: group[0] for group in groups for name in group}
    layers = {}
    for name in names:
        plan = chosen[name] or KEEP_FLOAT
        layers[name] = LayerPlan(plan.weight, plan.activation, group_of[name], plan.calibrator)
    members = {group[0]: tuple(group) for group in groups}
    found = {} if policy.residual == "none" else residual_adds(ops)
    adds = {add: first for add, first in found.items() if layers[first].activation}
    return Placement(layers, members, adds)


def _last_match(rules: Iterable[Rule], name: str) -> Rule | None:
    found = None
    for rule in rules:
        if matches(name, rule.pattern):
            found = rule
    return found


def check_patterns(
    patterns: Iterable[str], names: Sequence[str], what: str = "convolution"
) -> None:
    """Find slips in patterns of names; `what` is what they name.

    Raises:
        PolicyError: one matches none of the names; near names are listed.
    """
    for pattern in patterns:
        if not any(matches(name, pattern) for name in names):
            raise PolicyError(_unmatched(pattern, names, what))


def _unmatched(pattern: str, names: Sequence[str], what: str) -> str:
    known = sorted({".".join(n.split(".")[:end]) for n in names for end in range(2, 9)})
    near = difflib.get_close_matches(pattern, known, n=5, cutoff=0.3)
    return f"pattern {pattern!r} matches no {what}; near names: {', '.join(near or known[:5])}"


def _merge(groups: list[list[str]], wider: list[list[str]]) -> list[list[str]]:
    """Join sibling groups that a wider group connects; order of first appearance is kept."""
    home = {name: index for index, group in enumerate(wider) for name in group}
    merged: dict[Any, list[str]] = {}
    for group in groups:
        joined = next((home[name] for name in group if name in home), None)
        merged.setdefault(group[0] if joined is None else joined, []).extend(group)
    return list(merged.values())


def apply(net: nn.Module, placement: Placement, residual: Residual = "none") -> None:
    """Replace the planned convolutions and additions by quantized ones, in place, uncalibrated."""
    inputs: dict[tuple[str, QuantSpec], TensorQuantizer] = {}
    for name, plan in placement.layers.items():
        if plan.weight is None and plan.activation is None:
            continue
        activation: nn.Module = nn.Identity()
        if plan.activation is not None:
            key = (plan.group, plan.activation)
            activation = inputs.setdefault(key, TensorQuantizer(plan.activation))
        weight = nn.Identity() if plan.weight is None else TensorQuantizer(plan.weight)
        conv = net.get_submodule(name)
        assert isinstance(conv, nn.Conv2d)
        replace(net, name, QuantConv2d.of(conv, activation, weight))
    for name, first in placement.adds.items():
        shared = net.get_submodule(first).input_quantizer
        assert isinstance(shared, TensorQuantizer)
        replace(net, name, QuantAdd(shared, residual == "both", first))


def replace(net: nn.Module, name: str, module: nn.Module) -> None:
    """Put a module in the place of the one called `name`."""
    parent, _, child = name.rpartition(".")
    setattr(net.get_submodule(parent), child, module)
