"""What the sweep switches: blocks or single convolutions, and what each costs to run again."""

from collections.abc import Sequence
from dataclasses import dataclass

from yoloq.quant.policy import Placement, block_of, check_patterns, matches


@dataclass(frozen=True)
class Candidate:
    """Convolutions that are switched together.

    `name` is the block's or the convolution's, as policies know it; `block` the number of the
    block that they are in; `layers` those of its convolutions that the policy quantizes.
    """

    name: str
    block: int
    layers: tuple[str, ...]


def find_candidates(
    placement: Placement, grain: str, chosen: Sequence[str] = ()
) -> list[Candidate]:
    """The candidates of a placement, in the order of the network.

    Args:
        placement: what it leaves in float is no candidate.
        grain: `block` (model.2) or `conv` (model.2.cv1.conv).
        chosen: patterns of those to take; none: all.

    Raises:
        PolicyError: a pattern matches no quantized convolution; near names are listed.
    """
    names = [name for name, plan in placement.layers.items() if plan.quantized]
    check_patterns(chosen, names)
    groups: dict[str, list[str]] = {}
    for name in names:
        if not chosen or any(matches(name, pattern) for pattern in chosen):
            groups.setdefault(block_of(name) if grain == "block" else name, []).append(name)
    found = [Candidate(n, block_number(n), tuple(layers)) for n, layers in groups.items()]
    return sorted(found, key=lambda candidate: candidate.block)


def block_number(layer: str) -> int:
    """2 of `model.2.cv1.conv`."""
    return int(layer.split(".")[1])
