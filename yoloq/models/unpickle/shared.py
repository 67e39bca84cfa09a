"""Parts of a file that are used many times over: a module that is its own child in many places."""

from collections.abc import Collection
from typing import Any

from torch import Tensor

from yoloq.base.nested import plain_parts, reached
from yoloq.models.unpickle.allowance import Allowance
from yoloq.models.unpickle.arrays import Array
from yoloq.models.unpickle.stub import Stub


def check_shared(content: Any, size: int) -> None:
    """Count all parts as often as they are reached.

    Args:
        size: of the file in bytes.

    Raises:
        TooMuchError: they come to more than a file of that size may ask for.
    """
    allowance = Allowance(size)
    allowance.take_items(reached(content, _parts))
    allowance.take_tensor(reached(content, _parts, _bytes))


def _parts(value: Any) -> Collection[Any]:
    if isinstance(value, Stub):
        return (*value.args, *value.state.values())
    return plain_parts(value)


def _bytes(value: Any) -> int:
    tensor = value.tensor if isinstance(value, Array) else value
    return tensor.numel() * tensor.itemsize if isinstance(tensor, Tensor) else 0
