"""A float model with its scales moved: the same function, which is what is quantized then."""

import copy
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from yoloq.base.errors import CheckpointError, PolicyError
from yoloq.base.own_files import MAKE
from yoloq.base.say import say
from yoloq.models.load import LoadedModel
from yoloq.quant.moved.channels import FIXED, Channels, channels_of
from yoloq.quant.moved.largest import Floats
from yoloq.quant.trace import Op

Moved = Mapping[str, Sequence[float]]  # factors of the output channels of convolutions, by name


def check_movable(names: Sequence[str], net: nn.Module, ops: Sequence[Op]) -> None:
    """Find a network in which nothing can be moved.

    Args:
        names: moves.

    Raises:
        PolicyError: so it is; names the first layer and what is behind it.
    """
    channels = channels_of(net, ops)
    if not names or channels.movable:
        return
    layer, function = next(iter(channels.stops.items()), ("the head", "the raw maps"))
    raise PolicyError(
        f"--refine {names[0]}: no scale moves exactly through {function} behind {layer}, nor "
        f"elsewhere in this network; {MAKE} swap ARGS='--activation relu' puts ReLU there, or take "
        "another --refine"
    )


def moved(
    model: LoadedModel, names: Sequence[str], batches: Sequence[Tensor], ops: Sequence[Op]
) -> Moved:
    """By what the scales of a float model are to be moved; says which layers that reaches.

    Args:
        model: fused, in eval mode.
        names: keys of `MOVES`, in the order in which they are applied.
        batches: (N, 3, H, W) floats as the network takes them, on its device.
        ops: the trace of the network.
    """
    channels = channels_of(model.net, ops)
    total, own = np.ones(channels.count), model
    for name in names:
        move = importlib.import_module(f"yoloq.quant.moved.{name}")
        total = total * move.factors(own.net, channels, batches)
        own = _scaled(model, channels, total)
        say(f"{name}: {_reached(channels)}")
    found = {name: total[groups] for name, groups in channels.made.items()}
    return {name: of.tolist() for name, of in found.items() if bool((of != 1).any())}


def as_moved(model: LoadedModel, factors: Moved, ops: Sequence[Op]) -> LoadedModel:
    """A copy of a float model that is the same function with its scales moved.

    Args:
        factors: as `moved` gives them.

    Raises:
        CheckpointError: the factors are not of this network.
    """
    channels = channels_of(model.net, ops)
    total = np.ones(channels.count)
    for name, of in factors.items():
        if name not in channels.made or len(of) != len(channels.made[name]):
            raise CheckpointError(f"moved scales of {name} do not fit it; redo `{MAKE} ptq`")
        total[channels.made[name]] = of
    total[FIXED] = 1.0
    return _scaled(model, channels, total)


def _scaled(model: LoadedModel, channels: Channels, factors: Floats) -> LoadedModel:
    """A copy whose channels are multiplied by the factors of their groups."""
    net = copy.deepcopy(model.net)
    for name in channels.made:
        conv = net.get_submodule(name)
        assert isinstance(conv, nn.Conv2d)
        made, read = (
            torch.from_numpy(factors[side[name]]).to(conv.weight.device)
            for side in (channels.made, channels.read)
        )
        with torch.no_grad():
            by_group = conv.weight.double().unflatten(0, (conv.groups, -1))
            by_group = by_group * made.view(conv.groups, -1, 1, 1, 1)
            by_group = by_group / read.view(conv.groups, 1, -1, 1, 1)
            conv.weight.copy_(by_group.flatten(0, 1))
            if conv.bias is not None:
                conv.bias.copy_(conv.bias.double() * made)
    return replace(model, net=net)


def _reached(channels: Channels) -> str:
    """Which convolutions have channels that moved, and what stops the others."""
    reached = set(channels.movable)
    stopped = [name for name in channels.stops if name not in reached]
    text = f"scales moved behind {len(reached)} of {len(channels.made)} convolutions"
    if not stopped:
        return text
    return f"{text}; not through {channels.stops[stopped[0]]}, as behind {stopped[0]}"
