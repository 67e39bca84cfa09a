"""A network's modules as plain data, read from pickled or live ones, and built from it again.

What a module computes follows from its class, its attributes and its children; all of it is in the
data, so that nothing depends on what today's code would make of a model yaml. Classes are looked
up in tables: `LEAVES` of torch, and the blocks of a family.
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from yoloq.base.errors import CheckpointError
from yoloq.base.machine import raise_memory
from yoloq.models.leaves import CONTAINERS, LEAVES, State
from yoloq.models.pickled import COUNTERS, class_of
from yoloq.models.unpickle import Stub
from yoloq.models.unpickle.stub import FusedForward

Node = dict[str, Any]
"""`class`, `attributes`, `children` (name -> node), `parameters` and `buffers` (name -> shape)."""
Blocks = Mapping[str, type[nn.Module]]

# What torch, a trainer or a yaml parser leaves on a module and no forward pass reads.
BOOKKEEPING = {"training", "inplace", "i", "f", "type", "np", "total_ops", "total_params", "flops"}
HOOKS = ("_forward_hooks", "_forward_pre_hooks")
FOLDED = ("Conv", "DWConv", "ConvTranspose")  # blocks that leave `bn` out once they are fused
# Blocks that are one `conv` once they are fused, and the branches that are then gone.
MERGED = {"RepConv": ("conv1", "conv2"), "RepVGGDW": ("conv1",)}
AS_SAVED = "give the checkpoint as its trainer saved it"


class UnknownClassError(CheckpointError):
    """A module is of a class, `kind`, that no table has."""

    def __init__(self, name: str, kind: str, path: str) -> None:
        super().__init__(f"{name!r} is a {path}, which yoloq does not support")
        self.name, self.kind = name, kind


def describe(module: Stub | nn.Module, name: str, blocks: Blocks) -> Node:
    """The data of a module and all below it.

    Args:
        module: pickled, or live.
        name: for messages.
        blocks: classes that may occur besides torch's, by their bare names. What such a class
            annotates is what it reads: other attributes and children are refused. A class without
            annotations takes them all.

    Raises:
        CheckpointError: a class, an attribute or a child that is not supported, by its name.
    """
    if not isinstance(module, Stub | nn.Module):
        raise CheckpointError(f"{name!r} is no module but a {type(module).__name__}; {AS_SAVED}")
    kind, path, state = _class_and_state(module)
    ours = path.startswith(TORCH)
    if ours and kind in LEAVES:
        return _leaf(kind, state, name)
    if kind not in (CONTAINERS if ours else blocks):
        raise UnknownClassError(name, kind, path)
    children = {key: child for key, child in state.get("_modules", {}).items() if child is not None}
    attributes = _attributes(state)
    if _is_merged(kind, children):
        kind, attributes = "Conv", {}
        children["bn"] = nn.Identity()
    if isinstance(attributes.pop("forward", None), FusedForward):
        if kind not in FOLDED or "bn" in children:
            raise CheckpointError(
                f"{name!r}, a {kind}, was fused in a way that is not supported; {AS_SAVED}"
            )
        children["bn"] = nn.Identity()
    if kind in CONTAINERS:
        attributes = {}
    else:
        _check_fields(blocks[kind], name, {*attributes, *children, *_tensors(state)})
    node = {
        "class": kind,
        "attributes": {key: _plain(value, name, key) for key, value in attributes.items()},
        "children": {
            key: describe(child, f"{name}.{key}", blocks) for key, child in children.items()
        },
    }
    for tensors in ("parameters", "buffers"):
        shapes = {key: list(t.shape) for key, t in _tensors(state, f"_{tensors}").items()}
        node.update({tensors: shapes} if shapes else {})
    return node


def check_own_code(module: Stub, name: str) -> None:
    """Raise a CheckpointError where a pickled module runs code of its maker: hooks, a `forward`."""
    if any(module.state.get(hooks) for hooks in HOOKS):
        raise CheckpointError(f"{name!r} has hooks, which run code of its maker; remove them first")
    forward = module.state.get("forward")
    own = isinstance(forward, FusedForward) and forward.owner is module
    if "forward" in module.state and not own:
        raise CheckpointError(f"{name!r} has a 'forward' of its own, which yoloq does not support")


def _is_merged(kind: str, children: Mapping[str, Any]) -> bool:
    """Whether a block of branches was made one convolution for use: then it is act(conv(x))."""
    return kind in MERGED and "conv" in children and not {*MERGED[kind], "bn"} & {*children}


def build(node: Node, blocks: Blocks, name: str) -> nn.Module:
    """The module that data of `describe` stands for; its tensors have start values of torch.

    Args:
        name: for messages.

    Raises:
        CheckpointError: no such module can be, by its name.
    """
    kind, attributes = node["class"], {k: _tuples(v) for k, v in node["attributes"].items()}
    if kind in LEAVES:
        try:
            return LEAVES[kind][0](**attributes)
        except (TypeError, ValueError, RuntimeError) as error:
            raise_memory(error)
            raise CheckpointError(
                f"{name!r}, a {kind}, cannot be built ({one_line(error)}); {AS_SAVED}"
            ) from None
    cls = CONTAINERS.get(kind) or blocks.get(kind)
    if cls is None:
        raise UnknownClassError(name, kind, kind)
    module = cls.__new__(cls)
    nn.Module.__init__(module)
    for key, value in attributes.items():
        _check_attribute(cls, key)
        setattr(module, key, value)
    for key, shape in node.get("parameters", {}).items():
        module.register_parameter(key, nn.Parameter(torch.zeros(shape)))
    for key, shape in node.get("buffers", {}).items():
        module.register_buffer(key, torch.zeros(shape))
    for key, child in node["children"].items():
        module.add_module(key, build(child, blocks, f"{name}.{key}"))
    return module


def one_line(error: Exception) -> str:
    """What an error of torch says, short enough for one line."""
    return " ".join(str(error).split())[:120]


TORCH = ("torch.nn.", "utils.activations.")  # the second had activations before torch had them
ALIASES = {"Swish": "SiLU", "MemoryEfficientSwish": "SiLU", "MemoryEfficientMish": "Mish"}


def _class_and_state(module: Stub | nn.Module) -> tuple[str, str, State]:
    """A module's class by its bare name and by its whole path, and what it holds."""
    if isinstance(module, Stub):
        return ALIASES.get(class_of(module), class_of(module)), module.path, module.state
    return type(module).__name__, f"{type(module).__module__}.", vars(module)


def _leaf(kind: str, state: State, name: str) -> Node:
    try:
        attributes = LEAVES[kind][1](state)
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{name!r}, a {kind}, {error}; yoloq does not support it") from None
    plain = {key: _plain(value, name, key) for key, value in attributes.items()}
    return {"class": kind, "attributes": plain}


def _attributes(state: State) -> dict[str, Any]:
    """What a block holds besides tensors, children and bookkeeping."""
    return {
        key: value
        for key, value in state.items()
        if not key.startswith("_") and key not in BOOKKEEPING
    }


def _tensors(state: State, *kinds: str) -> dict[str, Tensor]:
    """The parameters and buffers that a block holds itself."""
    return {
        key: value
        for kind in kinds or ("_parameters", "_buffers")
        for key, value in state.get(kind, {}).items()
        if isinstance(value, Tensor) and not f".{key}".endswith(COUNTERS)
    }


def _check_fields(cls: type[nn.Module], name: str, found: set[str]) -> None:
    """Raise where a pickled block has what the class does not read, or lacks what it reads."""
    wanted = fields(cls)
    if not wanted:
        return
    if unknown := sorted(found - wanted):
        raise CheckpointError(
            f"{name!r}, a {cls.__name__}, has {unknown[0]!r}, which yoloq does not know: "
            "it comes from changed model code"
        )
    if missing := sorted(wanted - found):
        raise CheckpointError(f"{name!r}, a {cls.__name__}, lacks {missing[0]!r}: it is damaged")


def fields(cls: type[nn.Module]) -> set[str]:
    """The attributes and children that a block and its bases annotate; none of torch's own."""
    own = (c for c in cls.__mro__ if c.__module__.startswith(__name__.partition(".")[0]))
    return {field for c in own for field in inspect.get_annotations(c)}


def _check_attribute(cls: type[nn.Module], key: str) -> None:
    """Raise where data would put something in the place of a method."""
    if not key.isidentifier() or key.startswith("_") or callable(getattr(cls, key, None)):
        raise CheckpointError(f"an attribute {key!r} of a {cls.__name__} is not one it can have")


def _plain(value: Any, name: str, key: str) -> Any:
    """An attribute as JSON holds it."""
    if isinstance(value, Stub) and class_of(value) == "Size":
        value = value.args[0]
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item, name, key) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise CheckpointError(
        f"{name!r} has an attribute {key!r} of a kind ({type(value).__name__}) that yoloq does not "
        "support"
    )


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
