"""Ranges that a user sets by hand, put into a calibrated network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from yoloq.base.errors import PolicyError
from yoloq.quant.modules import QuantConv2d, is_on
from yoloq.quant.policy import Placement, check_patterns, matches

LISTED = 5  # names that an error lists


@dataclass(frozen=True)
class AmaxChange:
    """The range of one input quantizer before and after; `layers` share it."""

    layers: tuple[str, ...]
    before: float
    after: float


def resolve_amax(placement: Placement, chosen: Mapping[str, float]) -> dict[str, float]:
    """Convolution -> amax, of names of convolutions or of modules around just one.

    Raises:
        PolicyError: a name matches no convolution (near names are listed) or several, it is in
            float, or two share a range and get different ones.
    """
    found: dict[str, float] = {}
    for name, amax in chosen.items():
        layer = _only(placement, name)
        other = next((o for o in found if o in sharing(placement, layer)), layer)
        if found.get(other, amax) != amax:
            raise PolicyError(f"--amax {name}: shares its range with {other}; give one of them")
        found[layer] = amax
    return found


def _only(placement: Placement, name: str) -> str:
    layer = only_layer(name, list(placement.layers))
    if placement.layers[layer].activation is None:
        raise PolicyError(f"--amax {name}: is in float and has no range")
    return layer


def only_layer(name: str, layers: Sequence[str], flag: str = "--amax") -> str:
    """The convolution of a name, or of a module around just one; errors name the flag.

    Raises:
        PolicyError: there is none (near names are listed), or there are several.
    """
    try:
        check_patterns([name], layers)
    except PolicyError as error:
        raise PolicyError(f"{flag}: {error}") from None
    found = [layer for layer in layers if matches(layer, name)]
    if len(found) > 1:
        listed = ", ".join(found[:LISTED]) + (", ..." if len(found) > LISTED else "")
        raise PolicyError(f"{flag} {name}: holds {len(found)} convolutions; name one of {listed}")
    return found[0]


def set_amax(net: nn.Module, placement: Placement, chosen: Mapping[str, float]) -> list[AmaxChange]:
    """Give input quantizers the range -amax to amax.

    Args:
        net: with the calibrated quantizers of `placement`.
        chosen: as `parse_amax` gives it.

    Raises:
        PolicyError: see `resolve_amax`; nothing is changed then.
    """
    changes = []
    for layer, amax in resolve_amax(placement, chosen).items():
        conv = net.get_submodule(layer)
        assert isinstance(conv, QuantConv2d) and is_on(conv.input_quantizer)
        quantizer = conv.input_quantizer
        assert quantizer.low is not None and quantizer.amax is not None
        before, bound = float(quantizer.amax), torch.full_like(quantizer.low, amax)
        quantizer.set_range(-bound, bound)
        changes.append(AmaxChange(sharing(placement, layer), before, amax))
    return changes


def sharing(placement: Placement, layer: str) -> tuple[str, ...]:
    """The convolutions whose inputs have the quantizer of a quantized one, itself among them."""
    plan = placement.layers[layer]
    return tuple(
        name
        for name, other in placement.layers.items()
        if (other.group, other.activation) == (plan.group, plan.activation)
    )
