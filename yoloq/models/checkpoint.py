"""What a pickled checkpoint of YOLOv5 or of the ultralytics package holds, as plain data."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from torch import Tensor

from yoloq.base.errors import CheckpointError
from yoloq.base.say import warn
from yoloq.models import average
from yoloq.models.pickled import class_of, modules, short, tensors
from yoloq.models.unpickle import Stub
from yoloq.models.unpickle.arrays import Array

TASKS = {  # the end of a class's name -> what its files are for
    "Segmentation": "instance segmentation",
    "SegmentationModel": "instance segmentation",
    "Segment": "instance segmentation",
    "Segment26": "instance segmentation",
    "YOLOESegment": "instance segmentation",
    "YOLOESegment26": "instance segmentation",
    "ISegment": "instance segmentation",
    "IKeypoint": "pose estimation",
    "SemanticSegment": "semantic segmentation",
    "SemanticSegmentationModel": "semantic segmentation",
    "ClassificationModel": "image classification",
    "Classify": "image classification",
    "PoseModel": "pose estimation",
    "Pose": "pose estimation",
    "Pose26": "pose estimation",
    "OBBModel": "oriented boxes",
    "OBB": "oriented boxes",
    "OBB26": "oriented boxes",
    "DepthModel": "depth estimation",
    "Depth": "depth estimation",
    "RTDETRDetectionModel": "detection without a convolutional head (RT-DETR)",
    "RTDETRDecoder": "detection without a convolutional head (RT-DETR)",
    "WorldModel": "open-vocabulary detection",
    "WorldDetect": "open-vocabulary detection",
    "YOLOEModel": "open-vocabulary detection",
    "YOLOESegModel": "open-vocabulary detection",
    "YOLOEDetect": "open-vocabulary detection",
}
HOMES = ("models.", "yolov5.models.", "ultralytics.nn.")  # modules of these classes
CLASSIFIERS = "torchvision.models."
OTHERS = tuple(
    f"{CLASSIFIERS}{name}"
    for name in ("_utils", "detection", "segmentation", "video", "optical_flow", "quantization")
)


def check_task(paths: Iterable[str]) -> None:
    """Raise a CheckpointError where a class of another task is among names or texts of a file.

    The text names no file.
    """
    found = list(paths)
    detects = any(path.endswith("Detect") for path in found)
    for path in found:
        name = path.rpartition(".")[2]
        task = TASKS.get(name) if path.startswith(HOMES) else None
        if path.startswith(CLASSIFIERS) and not (path.startswith(OTHERS) or detects):
            task = "image classification"  # YOLOv5's classify/train.py takes any of these
        if task is not None:
            raise CheckpointError(
                f"holds a {name}, a model for {task}; yoloq quantizes detection models"
            )


def find_model(content: Any) -> tuple[Stub, dict[str, Tensor]]:
    """The pickled model of a checkpoint, and its tensors: averaged ones where it has them.

    Raises:
        CheckpointError: there is none, it is not a detection model, or its average is in no form
            that is known. The text names no file.
    """
    entries = content if isinstance(content, Mapping) else {"model": content}
    plain = average.held(entries.get("model"))
    key, averaged = average.averaged_entry(entries)
    pickled = (each for each in (averaged, plain) if isinstance(each, Stub))
    model = next((average.unwrapped(each) for each in pickled), None)
    if model is None:
        raise CheckpointError(
            "holds no model, only plain data; give the whole checkpoint (such as best.pt or "
            "last.pt), not a state dict taken out of it"
        )
    check_task(part.path for part in [model, *(child for _, child in modules(model))])
    _check_single(model)
    if averaged is None:
        return model, tensors(model)
    return model, average.averaged_tensors(key, averaged, model)


def _check_single(model: Stub) -> None:
    """Raise where a pickled model is several, as YOLOv5's `attempt_load` joins them."""
    if class_of(model) == "Ensemble":
        count = len(model.state.get("_modules", {}))
        raise CheckpointError(
            f"holds an Ensemble of {count} models, whose boxes are joined outside of them; "
            "give the checkpoint of one"
        )


def check_finite(tensors: Mapping[str, Tensor]) -> None:
    """Raise a CheckpointError that names a tensor with NaN or Inf, or a variance below zero.

    The text names no file.
    """
    for name, tensor in tensors.items():
        numbers = tensor.detach().cpu().float().numpy() if tensor.is_floating_point() else None
        if numbers is None or not numbers.size:
            continue
        low, high = numbers.min(), numbers.max()  # NaN where one is NaN
        if not math.isfinite(low + high) and not np.isfinite(numbers).all():
            raise CheckpointError(
                f"{np.sum(~np.isfinite(numbers))} of {numbers.size} numbers of {name!r} are NaN or "
                "Inf: its training failed; give an earlier checkpoint"
            )
        if low < 0 and name.endswith("running_var"):
            raise CheckpointError(
                f"{name!r} has a variance below zero: the file is damaged; fetch it again"
            )


def class_names(stub: Stub, count: int) -> tuple[str, ...]:
    """The names of a pickled model's classes, of a list, array or dict; `class7` where one lacks.

    Names that number other classes than the model has are left out, and that is said.
    """
    names = stub.state.get("names")
    names = names.texts if isinstance(names, Array) else names
    names = names if isinstance(names, Tensor) or names else {}
    listed = isinstance(names, list | tuple)
    table = (
        dict(enumerate(names)) if listed else names if isinstance(names, Mapping) else {0: names}
    )
    found = {int(k): str(v) for k, v in table.items() if str(k).isdecimal()}
    known = {number: name for number, name in found.items() if number < count}
    if len(known) < len(table) or not isinstance(names, list | tuple | Mapping | str):
        warn(
            f"the checkpoint's names {short(names)} do not number its {count} classes from 0: "
            "classes without a name are called by their number; save it with a name for each"
        )
        known = known if listed else {}
    return tuple(known.get(number, f"class{number}") for number in range(count))


def image_size(content: Any) -> int | None:
    """The size the model was trained at, where the checkpoint says; the larger of two sides."""
    for key in ("opt", "train_args"):
        options = content.get(key) if isinstance(content, Mapping) else None
        options = options.state if isinstance(options, Stub) else options
        if not isinstance(options, Mapping):
            continue
        for size in (options.get("imgsz"), options.get("img_size")):
            sides = size if isinstance(size, list | tuple) and size else [size]
            if all(type(side) is int and side > 0 for side in sides):
                return int(max(sides))
    return None
