"""What a pickled module holds: its children, tensors and numbers, each checked where it is read."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from yoloq.base.errors import CheckpointError
from yoloq.models.unpickle import Stub

COUNTERS = (".total_ops", ".total_params")  # buffers that a profiler leaves in a model


def class_of(stub: Stub) -> str:
    """The bare name of a stub's class."""
    return stub.path.rpartition(".")[2]


def modules(stub: Stub, prefix: str = "") -> Iterator[tuple[str, Stub]]:
    """Name and stub of every module below a pickled one, in order of registration."""
    for name, child in stub.state.get("_modules", {}).items():
        if isinstance(child, Stub):
            yield f"{prefix}{name}", child
            yield from modules(child, f"{prefix}{name}.")


def children(module: Any, name: str) -> list[Stub]:
    """The modules in a pickled container, in their order.

    Raises:
        CheckpointError: it, or what it holds, is no module. The text names no file.
    """
    held = module.state.get("_modules", {}) if isinstance(module, Stub) else {"": module}
    for key, child in held.items():
        if not isinstance(child, Stub):
            where = f"{name}.{key}" if key else name
            raise CheckpointError(
                f"{where!r} is no module but a {type(child).__name__}: the file is damaged, or "
                "comes from changed model code"
            )
    return list(held.values())


def layers(model: Stub, heads: Sequence[str]) -> list[Stub]:
    """The layers of a pickled model.

    Args:
        heads: classes that the last one may be of, each the end of a path.

    Raises:
        CheckpointError: there are none, or they end in another class. The text names no file.
    """
    found = children(model.state.get("_modules", {}).get("model"), "model")
    if not found:
        raise CheckpointError("its model has no layers: the file is damaged; fetch it again")
    if not f".{found[-1].path}".endswith(tuple(f".{head}" for head in heads)):
        raise CheckpointError(f"ends in a {found[-1].path}; yoloq knows {', '.join(heads)}")
    return found


def channels(convolution: Stub, name: str) -> int:
    """How many maps a pickled convolution makes.

    Raises:
        CheckpointError: it is none. The text names no file.
    """
    weight = convolution.state.get("_parameters", {}).get("weight")
    if not isinstance(weight, Tensor) or weight.ndim < 2:
        raise CheckpointError(
            f"{name!r} is a {convolution.path} where a head has a convolution: it comes from "
            "changed model code"
        )
    return len(weight)


def tensors(stub: Stub) -> dict[str, Tensor]:
    """The state dict of a pickled module: parameters and buffers by name."""
    found: dict[str, Tensor] = {}
    for name, module in [("", stub), *modules(stub)]:
        for kind in ("_parameters", "_buffers"):
            for key, value in module.state.get(kind, {}).items():
                if isinstance(value, Tensor):
                    found[f"{name}.{key}" if name else key] = value
    return {name: value for name, value in found.items() if not name.endswith(COUNTERS)}


def whole(state: Mapping[str, Any], key: str, default: Any = None) -> int:
    """An attribute of a head that counts something.

    Raises:
        CheckpointError: it is no whole number. The text names no file.
    """
    value = state.get(key, default)
    number = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
    if isinstance(number, int | float) and number == int(number):
        return int(number)
    raise CheckpointError(
        f"its head's {key!r} is {short(value)}, which is no whole number: the file is damaged"
    )


def whole_strides(stride: Any) -> tuple[int, ...]:
    """A head's strides in pixels.

    Raises:
        CheckpointError: one is no whole number of pixels. The text names no file.
    """
    if not isinstance(stride, Tensor):
        raise CheckpointError(f"its head's 'stride' is {short(stride)}, which is no tensor")
    found = [float(value) for value in stride.flatten().tolist()]
    if not all(value >= 1 and value == int(value) for value in found):
        raise CheckpointError(f"its head's 'stride' is {found}, which are no whole pixels")
    return tuple(map(int, found))


def short(value: Any) -> str:
    """A value as a message shows it."""
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
