"""Which tensor each convolution reads, found by watching one forward pass.

Watching the operators that run needs no knowledge of a model family: convolutions, concatenations,
poolings and additions are seen wherever a module's code calls them. Residual additions are modules
of their own (`Add`), so that they have names.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from yoloq.models.layered import LayeredNet
from yoloq.models.residuals import Add

aten = torch.ops.aten


@dataclass(frozen=True)
class Op:
    """One operator; `inputs` and `outputs` number the tensors of the pass."""

    kind: str  # conv, concat, maxpool, upsample, add, other
    name: str  # module of a conv, or the `Add` of an add; else ""
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    function: str = ""  # torch's name of it: silu, relu, cat
    channels: tuple[int, ...] = ()  # of the inputs, then of the outputs; 0: none on axis 1


KINDS = {
    aten.convolution.default: "conv",
    aten.cat.default: "concat",
    aten.max_pool2d_with_indices.default: "maxpool",
    aten.max_pool2d.default: "maxpool",
    aten.upsample_nearest2d.default: "upsample",
    aten.upsample_nearest2d.vec: "upsample",
    aten.add.Tensor: "add",
}


class _Recorder(TorchDispatchMode):
    def __init__(self, weights: Mapping[int, str]) -> None:
        super().__init__()
        self.weights = weights
        self.numbers: dict[int, int] = {}
        self.alive: list[Tensor] = []  # an id is unique only while its tensor lives
        self.ops: list[Op] = []
        self.entered = ""  # the `Add` that runs now

    def number(self, tensor: Tensor) -> int:
        if id(tensor) not in self.numbers:
            self.numbers[id(tensor)] = len(self.alive)
            self.alive.append(tensor)
        return self.numbers[id(tensor)]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        kind = KINDS.get(func, "other")
        if kind == "conv" and args[6]:  # transposed: no convolution of a graph
            kind = "other"
        tensors = args[0] if kind == "concat" else args
        inputs = [t for t in tensors if isinstance(t, Tensor)]
        name = ""
        if kind == "conv":
            name = self.weights.get(id(args[1]), "")
            inputs = inputs[:1]
        elif kind == "add":
            name, self.entered = self.entered, ""
        outputs = result if isinstance(result, list | tuple) else [result]
        kept = [t for t in outputs if isinstance(t, Tensor)]
        if kind == "maxpool":
            kept = kept[:1]
        function = func._schema.name.removeprefix("aten::").strip("_")
        read, made = tuple(map(self.number, inputs)), tuple(map(self.number, kept))
        self.ops.append(Op(kind, name, read, made, function, _channels([*inputs, *kept])))
        return result


def _channels(tensors: Sequence[Tensor]) -> tuple[int, ...]:
    return tuple(tensor.shape[1] if tensor.ndim == 4 else 0 for tensor in tensors)


SMALL = 64  # pixels of an image that is traced; more where the head's stride is


def trace(net: nn.Module) -> list[Op]:
    """The operators of one forward pass on a small image, in order.

    Args:
        net: in eval mode. The convolutions of a quantized network read fake-quantized weights and
            so go unnamed: trace the float network, or `export.float_copy` of it.
    """
    device, size = next(net.parameters()).device, _size(net)
    weights = {id(m.weight): n for n, m in net.named_modules() if isinstance(m, nn.Conv2d)}
    recorder = _Recorder(weights)
    with ExitStack() as stack:
        for name, module in net.named_modules():
            if isinstance(module, Add):
                entering = partial(_enter, recorder, name)
                stack.enter_context(module.register_forward_pre_hook(entering))
        # in inference mode a convolution reaches the recorder undecomposed
        with torch.inference_mode(False), torch.no_grad(), recorder:
            net(torch.zeros(1, 3, size, size, device=device))
    return recorder.ops


def _size(net: nn.Module) -> int:
    """A small multiple of the largest stride of a detector."""
    largest = max(net.strides) if isinstance(net, LayeredNet) else 1
    return -(-SMALL // largest) * largest


def _enter(recorder: _Recorder, name: str, module: nn.Module, args: tuple[Tensor, ...]) -> None:
    recorder.entered = name


def conv_inputs(ops: Sequence[Op]) -> dict[str, int]:
    """Tensor that each named convolution reads."""
    return {op.name: op.inputs[0] for op in ops if op.kind == "conv" and op.name}


def readers(ops: Sequence[Op]) -> dict[int, list[Op]]:
    """Operators that read each tensor."""
    result: dict[int, list[Op]] = defaultdict(list)
    for op in ops:
        for tensor in dict.fromkeys(op.inputs):
            result[tensor].append(op)
    return result


def sibling_groups(ops: Sequence[Op]) -> list[list[str]]:
    """Convolutions grouped by the tensor they read, in the order of the pass."""
    groups: dict[int, list[str]] = {}
    for name, tensor in conv_inputs(ops).items():
        groups.setdefault(tensor, []).append(name)
    return list(groups.values())


def residual_adds(ops: Sequence[Op]) -> dict[str, str]:
    """Residual additions by their modules, and the convolution with which each one's branch begins.

    The branch begins where a convolution reads the residual and the addition's other input is
    computed from it; the first one, where there are several. Without one the addition is left out.
    """
    makers = {tensor: op for op in ops for tensor in op.outputs}
    result = {}
    for add in ops:
        if add.kind != "add" or not add.name:
            continue
        residual, other = add.inputs
        waiting, seen = [other], {residual}
        while waiting:
            tensor = waiting.pop()
            if tensor not in seen:
                seen.add(tensor)
                waiting.extend(makers[tensor].inputs if tensor in makers else ())
        branch = (o for o in ops if o.kind == "conv" and o.inputs[0] == residual)
        first = next((o.name for o in branch if seen.intersection(o.outputs)), None)
        if first:
            result[add.name] = first
    return result


def concat_groups(ops: Sequence[Op], quantized: set[str]) -> list[list[str]]:
    """Quantized convolutions grouped so that no scale changes across a concat, pool or resize.

    A concatenation, max pool or nearest resize joins its inputs and output when everything that
    reads the output is quantized or joined itself; the joining is closed transitively. Needed by
    engines that then pass int8 through these operators without a rescale (TensorRT).
    """
    parent: dict[int, int] = {}

    def root(tensor: int) -> int:
        while parent.setdefault(tensor, tensor) != tensor:
            tensor = parent[tensor]
        return tensor

    for op in reversed(joined(ops, quantized)):
        for tensor in op.inputs:
            parent[root(tensor)] = root(op.outputs[0])
    groups: dict[int, list[str]] = {}
    for name, tensor in conv_inputs(ops).items():
        if name in quantized:
            groups.setdefault(root(tensor), []).append(name)
    return list(groups.values())


def joined(ops: Sequence[Op], quantized: set[str]) -> list[Op]:
    """The concatenations, pools and resizes whose output is read by quantized operators alone."""
    reading = readers(ops)
    result: list[Op] = []
    passing: set[int] = set()  # ids of the operators taken, found from the output backwards
    for op in reversed(ops):
        if op.kind not in ("concat", "maxpool", "upsample"):
            continue
        users = reading[op.outputs[0]]
        if users and all(u.name in quantized or id(u) in passing for u in users):
            passing.add(id(op))
            result.append(op)
    return result[::-1]
