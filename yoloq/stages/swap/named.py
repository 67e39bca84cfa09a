"""Which SiLUs the user names."""

from collections.abc import Sequence

from torch import nn

from yoloq.base.errors import CheckpointError, PolicyError
from yoloq.models.swap import silu_layers
from yoloq.quant.policy import check_patterns, matches


def chosen_layers(net: nn.Module, patterns: Sequence[str], weights: str) -> tuple[str, ...]:
    """Names of the SiLUs that patterns match, by their own name or that of a module around them.

    Args:
        net: the original network.
        patterns: of `--layers`.
        weights: the checkpoint, for an error.

    Raises:
        CheckpointError: the network has no SiLU.
        PolicyError: a pattern matches nothing (near names are listed), or a layer without SiLU.
    """
    names = silu_layers(net)
    if not names:
        raise CheckpointError(
            f"{weights}: has no SiLU, nothing to swap; its activations stay as they are"
        )
    modules = [name for name, _ in net.named_modules() if name.startswith("model.")]
    for pattern in patterns:
        if any(matches(name, pattern) for name in names):
            continue
        try:
            check_patterns([pattern], modules, "layer")
        except PolicyError as error:
            raise PolicyError(f"--layers: {error}") from None
        found = next(name for name in modules if matches(name, pattern))
        raise PolicyError(
            f"--layers {pattern}: {found} has no SiLU to swap; name others, or leave --layers out "
            "for all that have one"
        )
    return tuple(name for name in names if any(matches(name, pattern) for pattern in patterns))
