"""What a pickled checkpoint of YOLOv5 or of the ultralytics package holds, as plain data."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from yoloq.base.errors import CheckpointError
from yoloq.models.unpickle import Stub

OTHER_TASKS = (
    *("SegmentationModel", "ClassificationModel", "PoseModel", "OBBModel"),
    *("RTDETRDetectionModel", "WorldModel", "YOLOEModel"),
    *("Segment", "Classify", "Pose", "OBB", "RTDETRDecoder", "WorldDetect", "YOLOEDetect"),
)


def find_model(content: Any) -> Stub:
    """The pickled model of a checkpoint: the averaged weights (`ema`) where there are any.

    Raises:
        CheckpointError: there is none, or it is not a detection model. The text names no file.
    """
    entries = content if isinstance(content, Mapping) else {"model": content}
    candidates = (entries.get("ema"), entries.get("model"))
    model = next((item for item in candidates if isinstance(item, Stub)), None)
    if model is None:
        raise CheckpointError(
            "holds no model, only plain data; give the whole checkpoint (such as best.pt or "
            "last.pt), not a state dict taken out of it"
        )
    for part in [model, *(child for _, child in modules(model))]:
        if (name := class_of(part)) in OTHER_TASKS:
            raise CheckpointError(f"holds a {name}; yoloq quantizes detection models")
    return model


def class_of(stub: Stub) -> str:
    """The bare name of a stub's class."""
    return stub.path.rpartition(".")[2]


def modules(stub: Stub, prefix: str = "") -> Iterator[tuple[str, Stub]]:
    """Name and stub of every module below a pickled one, in order of registration."""
    for name, child in stub.state.get("_modules", {}).items():
        if isinstance(child, Stub):
            yield f"{prefix}{name}", child
            yield from modules(child, f"{prefix}{name}.")


def tensors(stub: Stub) -> dict[str, Tensor]:
    """The state dict of a pickled module: parameters and buffers by name."""
    found: dict[str, Tensor] = {}
    for name, module in [("", stub), *modules(stub)]:
        for kind in ("_parameters", "_buffers"):
            for key, value in module.state.get(kind, {}).items():
                if isinstance(value, Tensor):
                    found[f"{name}.{key}" if name else key] = value
    return found


def class_names(stub: Stub, count: int) -> tuple[str, ...]:
    """The names of a pickled model's classes, from its list or dict; `class7` where one lacks."""
    names = stub.state.get("names") or {}
    table = names if isinstance(names, Mapping) else dict(enumerate(names))
    return tuple(str(table.get(i, f"class{i}")) for i in range(count))


def image_size(content: Any) -> int | None:
    """The size the model was trained at, where the checkpoint says."""
    for key in ("opt", "train_args"):
        options = content.get(key) if isinstance(content, Mapping) else None
        options = options.state if isinstance(options, Stub) else options
        size = options.get("imgsz") if isinstance(options, Mapping) else None
        if isinstance(size, int):
            return size
    return None
