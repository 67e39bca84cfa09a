"""The activations that a classic model yaml may name."""

import re

from torch import nn

from yoloq.base.errors import CheckpointError

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "SiLU": nn.SiLU,
    "ReLU": nn.ReLU,
    "LeakyReLU": nn.LeakyReLU,
    "Hardswish": nn.Hardswish,
}
CALL = re.compile(r"(?:(?:torch\.)?nn\.)?(\w+)\((?:inplace=True|([\d.]*))\)")


def activation(text: str) -> nn.Module:
    """The module of a yaml's text, such as `nn.SiLU()` or `nn.LeakyReLU(0.1)`; nothing is run.

    Raises:
        CheckpointError: it is not one of `ACTIVATIONS` with at most one number.
    """
    match = CALL.fullmatch(text.strip())
    if not match or match[1] not in ACTIVATIONS:
        raise CheckpointError(
            f"activation {text!r} is not one that yoloq knows: {', '.join(ACTIVATIONS)}"
        )
    return ACTIVATIONS[match[1]](*([float(match[2])] if match[2] else []))
