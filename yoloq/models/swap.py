"""A model with other activations in the place of SiLU: the same layers and weights otherwise."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from yoloq.models import SWAPS
from yoloq.models.load import LoadedModel, fused, new_model
from yoloq.models.tree import Node


def silu_layers(net: nn.Module) -> list[str]:
    """Names of the modules that are SiLU, such as `model.2.cv1.act`, in order of registration."""
    found = net.named_modules(remove_duplicate=False)
    return [name for name, module in found if isinstance(module, nn.SiLU)]


def swapped(model: LoadedModel, names: Sequence[str], activation: str) -> LoadedModel:
    """A new model with an activation of `SWAPS` in the place of the named SiLUs.

    Its tensors are copies, its description has the new classes, so that it can be saved.

    Raises:
        ValueError: a name is not that of a SiLU.
    """
    spec = copy.deepcopy(model.spec)
    for name in names:
        node = _node(spec, name)
        if node.get("class") != nn.SiLU.__name__:
            raise ValueError(f"{name!r} is no SiLU")
        node |= {"class": SWAPS[activation], "attributes": {}}
    own = new_model(model.family, spec, model.names)
    own = fused(own) if model.fused else own
    own.net.load_state_dict(model.net.state_dict())
    return replace(model, net=own.net.eval(), spec=spec, sha256="")


def _node(spec: dict[str, Any], name: str) -> Node:
    """The data of a module in a description, by its name in the network; {} where it has none."""
    _, index, *path = name.split(".")
    node: Node = spec["layers"][int(index)]
    for key in path:
        node = node.get("children", {}).get(key, {})
    return node
