"""The model that training starts from."""

from dataclasses import replace
from typing import cast

from yoloq.models import LoadedModel, load_model, new_model
from yoloq.models.yolov5.network import YOLOv5, v6_spec
from yoloq.train.prior import set_prior

SCRATCH = ("", "scratch")


def start_model(weights: str, family: str, size: str, names: tuple[str, ...]) -> LoadedModel:
    """Random weights of a family and size, or those of a checkpoint for these classes.

    A checkpoint of another number of classes gives all tensors whose shape fits; its head is new.

    Raises:
        CheckpointError: the checkpoint cannot be used.
    """
    if weights in SCRATCH:
        return _fresh(family, size, names)
    loaded = load_model(weights, fuse=False)
    if len(loaded.names) == len(names):
        return replace(loaded, names=names)
    model = new_model(loaded.family, {**loaded.spec, "nc": len(names)}, names)
    _set_prior(model)
    wanted = model.net.state_dict()
    given = loaded.net.state_dict()
    fitting = {
        name: given[name]
        for name, tensor in wanted.items()
        if name in given and given[name].shape == tensor.shape
    }
    model.net.load_state_dict(wanted | fitting)
    return model


def _fresh(family: str, size: str, names: tuple[str, ...]) -> LoadedModel:
    if family == "yolov5":
        model = new_model(family, v6_spec(size, len(names)), names)
        _set_prior(model)
        return model
    from yoloq.models.ultralytics import package_spec

    return new_model(family, package_spec(f"yolov5{size}", len(names)), names)


def _set_prior(model: LoadedModel) -> None:
    """Start biases of a classic head; the package's networks set their own."""
    if model.family == "yolov5":
        set_prior(cast(YOLOv5, model.net).detect)
