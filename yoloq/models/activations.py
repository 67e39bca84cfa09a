"""The activations that a classic model yaml may name."""

import ast

from torch import nn

from yoloq.base.errors import CheckpointError
from yoloq.models.leaves import ACTIVATIONS


def activation(text: str) -> nn.Module:
    """The module of a yaml's text, such as `nn.SiLU()` or `nn.LeakyReLU(0.1)`; nothing is run.

    Raises:
        CheckpointError: it is not one of `ACTIVATIONS` with plain arguments.
    """
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if not isinstance(call, ast.Call):
            raise ValueError(text)
        name = ast.unparse(call.func).removeprefix("torch.").removeprefix("nn.")
        arguments = [ast.literal_eval(value) for value in call.args]
        named = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
        named.pop("inplace", None)
        return ACTIVATIONS[name][0](*arguments, **named)
    except (SyntaxError, ValueError, KeyError, TypeError):
        raise CheckpointError(
            f"activation {text!r} is not one that yoloq knows: {', '.join(ACTIVATIONS)}"
        ) from None
