"""The model that training starts from."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from yoloq.models.family import get_family
from yoloq.models.load import LoadedModel, load_model, new_model
from yoloq.train import SCRATCH


def start_model(weights: str, family: str, size: str, names: tuple[str, ...]) -> LoadedModel:
    """Random weights of a family and size, or those of a checkpoint for these classes.

    A checkpoint of another number of classes gives all tensors whose shape fits; its head is new.

    Raises:
        CheckpointError: the checkpoint cannot be used.
    """
    if weights in SCRATCH:
        return fresh(family, get_family(family).spec(size, len(names)), names)
    loaded = load_model(weights, fuse=False)
    if len(loaded.names) == len(names):
        return replace(loaded, names=names)
    with_classes = get_family(loaded.family).with_classes
    model = fresh(loaded.family, with_classes(loaded.spec, len(names)), names)
    wanted = model.net.state_dict()
    given = loaded.net.state_dict()
    fitting = {
        name: given[name]
        for name, tensor in wanted.items()
        if name in given and given[name].shape == tensor.shape
    }
    model.net.load_state_dict(wanted | fitting)
    return model


def fresh(family: str, spec: Mapping[str, Any], names: tuple[str, ...]) -> LoadedModel:
    """Random weights, with the start values of a fresh head."""
    model = new_model(family, spec, names)
    get_family(family).prior(model.net)
    return model
