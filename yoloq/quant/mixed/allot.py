"""Which width each layer gets: the least loss that a budget allows, by an integer program.

A binary variable for each layer and width, one of each layer set; the sum of costs within the
budget, the sum of losses least. Layers that share a quantizer have the same bits of activations: a
variable for each group and number of bits, of which at most one is set, bounds theirs. With some
hundred variables a solver proves the best answer within a second.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yoloq.quant.mixed.width import Width

SPAN = 1e4  # losses are scaled to it: the solver takes differences of 1e-6 for none

Rule = tuple[dict[int, float], float, float]  # coefficients by variable, lowest and highest sum


@dataclass(frozen=True)
class Option:
    """A width that a layer can have, what is lost with it and what it costs; both add up."""

    width: Width
    loss: float
    cost: float


Choice = dict[str, Width]  # by layer
Options = Mapping[str, Sequence[Option]]  # by layer


def allot(options: Options, groups: Mapping[str, str], limit: float) -> Choice | None:
    """The choice that loses least within a limit of the summed costs; None: none is within it.

    Args:
        options: of each layer.
        groups: of each layer: those of one group that are in integers have one number of bits of
            activations.
    """
    rules = _rules(options, groups)
    rules.append(({i: o.cost / limit for i, o in enumerate(_flat(options))}, -np.inf, 1.0))
    while True:
        found = _solve(options, [option.loss for option in _flat(options)], rules)
        if found is None or summed(options, found, "cost") <= limit * (1 + 1e-12):
            return found
        rules.append(_other_than(options, found))  # within the solver's tolerance, and not within


def cheapest(options: Options, groups: Mapping[str, str]) -> Choice:
    """The choice that costs least."""
    costs = [option.cost for option in _flat(options)]
    found = _solve(options, costs, _rules(options, groups))
    assert found is not None, "the layers of a group have no bits of activations in common"
    return found


def summed(options: Options, choice: Mapping[str, Width], of: str) -> float:
    """The `loss` or the `cost` of a choice."""
    flat = ((name, option) for name, found in options.items() for option in found)
    return float(sum(getattr(o, of) for name, o in flat if o.width == choice[name]))


def _flat(options: Options) -> list[Option]:
    """All options; the number of each is that of its variable."""
    return [option for found in options.values() for option in found]


def _numbered(options: Options) -> Iterator[tuple[str, list[tuple[int, Width]]]]:
    """The variables of each layer, and the width that each stands for."""
    first = 0
    for name, found in options.items():
        yield name, [(first + i, option.width) for i, option in enumerate(found)]
        first += len(found)


def _rules(options: Options, groups: Mapping[str, str]) -> list[Rule]:
    """One width a layer, and one number of bits of activations a group."""
    rules: list[Rule] = []
    bits: dict[tuple[str, int], int] = {}  # variable of a group's number of bits
    for name, variables in _numbered(options):
        rules.append((dict.fromkeys((i for i, _ in variables), 1.0), 1, 1))
        for variable, width in variables:
            if width.quantized:
                key = (groups[name], width.activation)
                own = bits.setdefault(key, len(_flat(options)) + len(bits))
                rules.append(({variable: 1.0, own: -1.0}, -np.inf, 0))
    for group in {group for group, _ in bits}:
        own_bits = [variable for (other, _), variable in bits.items() if other == group]
        rules.append((dict.fromkeys(own_bits, 1.0), -np.inf, 1))
    return rules


def _other_than(options: Options, choice: Choice) -> Rule:
    """Rules out one choice."""
    chosen = [i for name, found in _numbered(options) for i, w in found if w == choice[name]]
    return dict.fromkeys(chosen, 1.0), -np.inf, len(chosen) - 1


def _solve(options: Options, objective: Sequence[float], rules: Sequence[Rule]) -> Choice | None:
    from scipy.optimize import Bounds, LinearConstraint, milp  # takes a while to import

    count = 1 + max(variable for coefficients, _, _ in rules for variable in coefficients)
    matrix = np.zeros((len(rules), count))
    for row, (coefficients, _, _) in enumerate(rules):
        matrix[row, list(coefficients)] = list(coefficients.values())
    found: Any = milp(
        _scaled(objective, count),
        integrality=np.ones(count),
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(matrix, [r[1] for r in rules], [r[2] for r in rules]),
        options={"mip_rel_gap": 0.0, "presolve": False},  # which can write to stdout
    )
    if found.x is None:
        return None
    return {
        name: next(width for variable, width in variables if found.x[variable] > 0.5)
        for name, variables in _numbered(options)
    }


def _scaled(objective: Sequence[float], count: int) -> NDArray[np.float64]:
    """(count,) coefficients of what is to be least, 0 of what stands for no option."""
    values = np.zeros(count)
    values[: len(objective)] = objective
    largest = float(np.abs(values).max())
    return values * (SPAN / largest) if largest else values
