"""Which channels of a network can be scaled, and which only together, seen in its trace."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from yoloq.quant.trace import Op

Ints = NDArray[np.int64]
FIXED = 0  # the group of the channels that cannot be scaled
PASSING = {  # what has f(s x) = s f(x) for s > 0, channel by channel
    *("relu", "leaky_relu", "prelu", "prelu_kernel", "clone", "avg_pool2d", "adaptive_avg_pool2d"),
    *("max_pool2d", "max_pool2d_with_indices", "upsample_nearest2d"),
}


@dataclass(frozen=True)
class Channels:
    """Groups of channels that have one factor, by number.

    Attributes:
        made: group (out,) of what each convolution gives.
        read: group (in,) of what it reads.
        stops: of convolutions whose channels are fixed, the function behind them: silu.
    """

    made: Mapping[str, Ints]
    read: Mapping[str, Ints]
    stops: Mapping[str, str]

    @property
    def count(self) -> int:
        """One more than the largest group."""
        return 1 + max(int(of.max()) for of in (*self.made.values(), *self.read.values()))

    @property
    def movable(self) -> list[str]:
        """The convolutions that give a channel which can be scaled."""
        return [name for name, groups in self.made.items() if bool((groups != FIXED).any())]

    @property
    def together(self) -> Ints:
        """A number (count,) that groups have in common which are read in one tensor."""
        groups = _Groups()
        every = groups.new(self.count - 1)
        for of in self.read.values():
            free = of[of != FIXED]
            groups.join(free, np.full_like(free, free[0]) if len(free) else free)
        return np.concatenate([[FIXED], groups.settled(every)])


class _Groups:
    """Channels joined to groups; a group that is joined to `FIXED` is fixed."""

    def __init__(self) -> None:
        self.parent = [FIXED]

    def new(self, count: int) -> Ints:
        """So many groups of a channel each."""
        start = len(self.parent)
        self.parent.extend(range(start, start + count))
        return np.arange(start, start + count)

    def root(self, group: int) -> int:
        while self.parent[group] != group:
            group = self.parent[group] = self.parent[self.parent[group]]
        return group

    def join(self, first: Ints, second: Ints) -> None:
        """Channel by channel; the lower number stays, so that `FIXED` does."""
        for one, other in zip(first.tolist(), second.tolist(), strict=True):
            low, high = sorted((self.root(one), self.root(other)))
            self.parent[high] = low

    def fix(self, groups: Ints) -> None:
        """These cannot be scaled."""
        self.join(groups, np.full_like(groups, FIXED))

    def settled(self, groups: Ints) -> Ints:
        """The numbers of what the groups came to be joined to."""
        return np.array([self.root(group) for group in groups.tolist()], np.int64)


def channels_of(net: nn.Module, ops: Sequence[Op]) -> Channels:
    """The groups of a network with batch norm folded in.

    A convolution parts what it reads from what it gives. Additions join channels, concatenations
    and what is in `PASSING` hand them on; the image, what nothing reads (the raw maps) and all
    that another function touches are fixed.

    Args:
        ops: its trace.
    """
    groups = _Groups()
    tensors: dict[int, Ints] = {}
    made: dict[str, Ints] = {}
    read: dict[str, Ints] = {}
    stops: dict[int, str] = {}
    for op in ops:
        widths = dict(zip((*op.inputs, *op.outputs), op.channels, strict=True))
        for tensor in op.inputs:
            if tensor not in tensors:  # made by no operator: the image, or a parameter
                tensors[tensor] = np.full(widths[tensor], FIXED)
        inputs = [tensors[tensor] for tensor in op.inputs]
        if op.kind == "conv" and op.name:
            [output] = op.outputs
            if op.name in made:  # called more than once: with the same weights
                groups.join(read[op.name], inputs[0])
            else:
                made[op.name], read[op.name] = groups.new(widths[output]), inputs[0]
            tensors[output] = made[op.name]
        elif (passed := _passed(op, inputs, groups)) is not None:
            tensors[op.outputs[0]] = passed
        else:
            for tensor, width in zip(op.inputs, inputs, strict=True):
                groups.fix(width)
                stops.setdefault(tensor, op.function)
            for tensor in op.outputs:
                tensors[tensor] = np.full(widths[tensor], FIXED)
    read_by_another = {tensor for op in ops for tensor in op.inputs if tensor not in op.outputs}
    for tensor in tensors.keys() - read_by_another:
        groups.fix(tensors[tensor])
    return _settled(groups, made, read, _named(ops, stops))


def _passed(op: Op, inputs: Sequence[Ints], groups: _Groups) -> Ints | None:
    """The groups of an operator's output; None: it does not hand them on."""
    width = op.channels[len(op.inputs)] if op.outputs else 0
    if op.function in PASSING:
        return inputs[0]
    if op.kind == "concat" and width == sum(map(len, inputs)):
        return np.concatenate(inputs)
    if op.kind == "add" and len(inputs) == 2 and len(inputs[0]) == len(inputs[1]) == width:
        groups.join(*inputs)
        return inputs[0]
    return None


def _named(ops: Sequence[Op], stops: Mapping[int, str]) -> dict[str, str]:
    """The function behind each convolution that stops its channels."""
    return {op.name: stops[op.outputs[0]] for op in ops if op.name and op.outputs[0] in stops}


def _settled(
    groups: _Groups, made: Mapping[str, Ints], read: Mapping[str, Ints], stops: Mapping[str, str]
) -> Channels:
    """With groups numbered through; those that no convolution reads gain nothing and are fixed."""
    ours, theirs = (
        {name: groups.settled(of) for name, of in side.items()} for side in (made, read)
    )
    both = np.intersect1d(np.concatenate([*ours.values()]), np.concatenate([*theirs.values()]))
    numbers = np.zeros(len(groups.parent), np.int64)
    free = both[both != FIXED]
    numbers[free] = np.arange(1, 1 + len(free))
    ours, theirs = ({n: numbers[of] for n, of in side.items()} for side in (ours, theirs))
    return Channels(ours, theirs, stops)
