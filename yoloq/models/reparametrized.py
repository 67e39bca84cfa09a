"""Weights that a tool of torch has rewritten, so that hooks compute them anew; how to undo it."""

from collections.abc import Iterable
from typing import NamedTuple

from yoloq.base.errors import CheckpointError


class Tool(NamedTuple):
    """A tool that rewrites weights.

    Attributes:
        state: what its weights are, for messages.
        ends: of the names of the tensors that it makes of one weight.
        undo: the call of `torch.nn.utils` that makes it one tensor again.
    """

    state: str
    ends: tuple[str, str]
    undo: str


TOOLS = (
    Tool("pruned", ("_orig", "_mask"), "prune.remove(layer, 'weight')"),
    Tool("under spectral norm", ("_orig", "_u"), "remove_spectral_norm(layer)"),
    Tool("under weight norm", ("_g", "_v"), "remove_weight_norm(layer)"),
)
PARAMETRIZED = ".parametrizations."  # in the names of what newer tools make of a weight
UNPARAMETRIZE = "parametrize.remove_parametrizations(layer, 'weight')"


def check_weights(names: Iterable[str]) -> None:
    """Look for rewritten weights.

    Args:
        names: of all tensors of a model.

    Raises:
        CheckpointError: there is one; names the first, and how to undo it. The text names no file.
    """
    found = set(names)
    for name in sorted(found):
        if PARAMETRIZED in name:
            layer, _, rest = name.partition(PARAMETRIZED)
            raise _refusal(f"{layer}.{rest.partition('.')[0]}", "parametrized", UNPARAMETRIZE)
        for state, (first, second), undo in TOOLS:
            weight = name.removesuffix(first)
            one = name.endswith(first) and weight.endswith(("weight", "bias"))
            if one and f"{weight}{second}" in found:
                raise _refusal(weight, state, undo)


def _refusal(weight: str, state: str, undo: str) -> CheckpointError:
    return CheckpointError(
        f"{weight!r} is {state}; call torch.nn.utils.{undo} on each such layer and save it again"
    )
