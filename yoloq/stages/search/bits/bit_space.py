"""What is searched: a width for each convolution, as a policy and by name."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from torch import nn

from yoloq.engines.base import Defaults
from yoloq.quant.mixed.allot import Choice
from yoloq.quant.mixed.costs import Layer, layers_of
from yoloq.quant.mixed.width import EDGE, FLOAT, Width, counted
from yoloq.quant.policy import Policy, Rule, block_of, conv_layers, resolve
from yoloq.quant.spec import ACTIVATION, WEIGHT, QuantSpec
from yoloq.quant.trace import Op


@dataclass(frozen=True)
class BitSpace:
    """All choices of widths for a network.

    Attributes:
        layers: its convolutions in the order of the pass.
        blocks: the numbered ones that hold them, the head last.
        usual: ranges and shared scales as the engine has them.
        calibrator: of every range.
    """

    layers: tuple[Layer, ...]
    blocks: tuple[str, ...]
    usual: Defaults
    calibrator: str

    @staticmethod
    def of(
        net: nn.Module,
        ops: Sequence[Op],
        imgsz: int,
        widths: Sequence[Width],
        usual: Defaults,
        calibrator: str,
    ) -> "BitSpace":
        """The space of a float network; who shares a quantizer is as of everything in integers."""
        everything = Policy((Rule("*", WEIGHT, ACTIVATION),), usual.sharing, usual.residual)
        layers = layers_of(net, ops, resolve(everything, ops), imgsz, widths)
        return BitSpace(tuple(layers), tuple(conv_layers(net)), usual, calibrator)

    @cached_property
    def groups(self) -> dict[str, str]:
        """The group of each layer."""
        return {layer.name: layer.group for layer in self.layers}

    def uniform(self, width: Width) -> Choice:
        """One width for all, as `make ptq` places: first layers and head at 8 bits or in float."""
        floats = {*self.blocks[: self.usual.float_first], self.blocks[-1]}
        return {
            layer.name: FLOAT
            if block_of(layer.name) in floats
            else width
            if width in layer.widths
            else EDGE
            for layer in self.layers
        }

    def everywhere(self, width: Width) -> Choice:
        """A width wherever a layer can have it, and 8 bits elsewhere."""
        return {layer.name: width if width in layer.widths else EDGE for layer in self.layers}

    def policy(self, choice: Mapping[str, Width]) -> Policy:
        """A choice as rules: the width that most layers have, then those that have another."""
        usual = Counter(choice.values()).most_common(1)[0][0]
        rules = [self._rule("*", usual)]
        for position, layer in enumerate(self.layers):
            rule = self._rule(layer.name, choice[layer.name])
            if position == 0 and rule.activation and self.usual.zero_points:
                image = QuantSpec(symmetric=False)  # bytes as they are
                rule = replace(rule, activation=image)
            if replace(rule, pattern="*") != rules[0]:
                rules.append(rule)
        return Policy(tuple(rules), self.usual.sharing, self.usual.residual)

    def _rule(self, pattern: str, width: Width) -> Rule:
        if not width.quantized:
            return Rule(pattern, None, None)
        weight = replace(WEIGHT, bits=width.weight)
        activation = QuantSpec(width.activation, symmetric=self.usual.symmetric)
        return Rule(pattern, weight, activation, self.calibrator)


def named(choice: Mapping[str, Width]) -> str:
    """How many layers have each width, and a mark that tells choices apart."""
    text = " ".join(f"{name}={width}" for name, width in choice.items())
    return f"{counted(choice.values())} #{hashlib.sha256(text.encode()).hexdigest()[:6]}"
