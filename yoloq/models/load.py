"""Reading and writing checkpoints of every family."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from yoloq.base.errors import CheckpointError
from yoloq.base.files import replace_when_whole, sha256
from yoloq.models import checkpoint, unpickle
from yoloq.models.family import Family, families, get_family
from yoloq.models.fuse import fuse_batch_norm
from yoloq.models.heads import Head
from yoloq.models.unpickle import Stub

FORMAT = 1


@dataclass(frozen=True)
class LoadedModel:
    """A network in eval mode and FP32, and everything that has to travel with it.

    `spec` is JSON-able and rebuilds the network; `fused` says that batch norm is folded into the
    convolutions; `sha256` is the hash of the file it came from, empty for a new model; `imgsz` is
    the size it was trained at, where the file says; `extra` holds what else was saved with it.
    """

    net: nn.Module
    head: Head
    names: tuple[str, ...]
    family: str
    spec: dict[str, Any]
    sha256: str = ""
    fused: bool = False
    imgsz: int | None = None
    extra: dict[str, Any] = field(default_factory=dict)


def new_model(family: str, spec: Mapping[str, Any], names: tuple[str, ...]) -> LoadedModel:
    """A randomly initialised model, not fused; seed torch before for the same weights."""
    row = get_family(family)
    net = row.build(spec).eval()
    return LoadedModel(net, row.head(net), tuple(names), family, dict(spec))


def save_model(path: str | Path, model: LoadedModel, **extra: Any) -> None:
    """Write yoloq's own format whole: tensors and one JSON text, no pickled classes.

    `extra` holds further JSON-able values; they come back in `LoadedModel.extra`.
    """
    meta = {
        "family": model.family,
        "spec": model.spec,
        "names": list(model.names),
        "fused": model.fused,
        "imgsz": model.imgsz,
        "extra": {**model.extra, **extra},
    }
    content = {"yoloq": FORMAT, "meta": json.dumps(meta), "state_dict": model.net.state_dict()}
    with replace_when_whole(Path(path)) as temporary:
        torch.save(content, temporary)


def load_model(path: str | Path, fuse: bool = True) -> LoadedModel:
    """Read a checkpoint: classic YOLOv5's, the ultralytics package's, or yoloq's own.

    None of the file's code runs (see `unpickle.py`). `fuse` folds batch norm into convolutions.

    Raises:
        CheckpointError: the file cannot be read, or is no detection model that yoloq knows.
    """
    file = Path(path)
    content = unpickle.read(file)
    own = isinstance(content, Mapping) and "yoloq" in content
    try:
        model = _from_own(content) if own else _from_pickle(content)
    except CheckpointError as error:
        raise CheckpointError(f"{file}: {error}") from None
    except Exception as error:  # a damaged description can raise anything
        reason = " ".join(str(error).split())[:120]
        raise CheckpointError(
            f"{file}: its model cannot be rebuilt ({type(error).__name__}: {reason}); "
            "give a file as YOLOv5, the ultralytics package or yoloq saves it"
        ) from error
    model = replace(model, sha256=sha256(file))
    return fused(model) if fuse else model


def fused(model: LoadedModel) -> LoadedModel:
    """The model with batch norm folded into the convolutions (its network changes in place)."""
    fuse_batch_norm(model.net)
    return replace(model, fused=True)


def _from_own(content: Mapping[str, Any]) -> LoadedModel:
    """Rebuild a model from the content of yoloq's own format."""
    meta = json.loads(content["meta"])
    model = new_model(meta["family"], meta["spec"], tuple(meta["names"]))
    if meta["fused"]:
        model = fused(model)
    _load_tensors(model.net, content["state_dict"])
    return replace(_with_head(model), imgsz=meta["imgsz"], extra=meta["extra"])


def _from_pickle(content: Any) -> LoadedModel:
    """Rebuild a model from the content of another project's checkpoint."""
    pickled = checkpoint.find_model(content)
    family = _family_of(pickled)
    spec, tensors = family.read(pickled)
    model = new_model(family.name, spec, checkpoint.class_names(pickled, spec["nc"]))
    if not any(name.endswith(".bn.running_var") for name in tensors):
        model = fused(model)
    _load_tensors(model.net, tensors)
    _check_activations(model.net, pickled)
    return replace(_with_head(model), imgsz=checkpoint.image_size(content))


def _family_of(pickled: Stub) -> Family:
    """The family that a pickled model's class belongs to."""
    known = {path: row for row in families() for path in row.classes}
    if pickled.path not in known:
        raise CheckpointError(f"holds a {pickled.path}; yoloq knows {', '.join(known)}")
    return known[pickled.path]


def _with_head(model: LoadedModel) -> LoadedModel:
    """The model with the head of its loaded tensors, which may hold other anchors."""
    return replace(model, head=get_family(model.family).head(model.net))


def _load_tensors(net: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load strictly by name and shape; numbers are converted to the network's own types."""
    shapes = {name: tensor.shape for name, tensor in net.state_dict().items()}
    found = {name: tensor.shape for name, tensor in tensors.items()}
    wrong = sorted(name for name in {*shapes, *found} if shapes.get(name) != found.get(name))
    if wrong:
        raise CheckpointError(
            f"{len(wrong)} tensors do not fit the model's own description, such as {wrong[0]!r}; "
            "the file is damaged or comes from changed model code"
        )
    net.load_state_dict(dict(tensors))
    net.float().eval()


def _check_activations(net: nn.Module, pickled: Stub) -> None:
    """Raise where a pickled activation is of another class than the rebuilt one."""
    named = net.named_modules(remove_duplicate=False)  # the package shares one SiLU
    rebuilt = {name: type(module).__name__ for name, module in named}
    for name, stub in checkpoint.modules(pickled):
        found = checkpoint.class_of(stub)
        if name.endswith(".act") and rebuilt.get(name, found) != found:
            raise CheckpointError(
                f"has {found} at {name!r} where its description makes {rebuilt[name]}; "
                "it comes from changed or newer model code"
            )
