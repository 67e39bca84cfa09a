"""Reading and writing checkpoints of every family."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from yoloq.base.errors import CheckpointError
from yoloq.base.files import replace_when_whole, sha256
from yoloq.base.machine import raise_memory
from yoloq.models import FAMILIES, bounds, checkpoint, links, pickled, tree, unpickle
from yoloq.models.family import Family, families, get_family
from yoloq.models.fuse import fuse_batch_norm
from yoloq.models.heads import Head
from yoloq.models.layered import LayeredNet
from yoloq.models.reparametrized import check_weights
from yoloq.models.trial import check_runs
from yoloq.models.unpickle import ForeignError, Stub, named_in

FORMAT = 2  # 1 held a model yaml in the place of a description
FORMATS = (1, 2)


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
    net: Any = row.build(spec).eval()
    return LoadedModel(net, row.head(net), tuple(names), family, net.spec)


def save_model(path: str | Path, model: LoadedModel, **extra: Any) -> None:
    """Write yoloq's own format whole: tensors and one JSON text, no pickled classes.

    `extra` holds further JSON-able values; they come back in `LoadedModel.extra`.
    """
    meta = describe(replace(model, extra={**model.extra, **extra}))
    content = {"yoloq": FORMAT, "meta": meta, "state_dict": model.net.state_dict()}
    with replace_when_whole(Path(path)) as temporary, open(temporary, "wb") as stream:
        torch.save(content, stream)


def describe(model: LoadedModel) -> str:
    """All of a model but its tensors, as one JSON text; `rebuilt` reads it."""
    meta = {
        "family": model.family,
        "spec": model.spec,
        "names": list(model.names),
        "fused": model.fused,
        "imgsz": model.imgsz,
        "extra": model.extra,
    }
    return json.dumps(meta)


def load_model(path: str | Path, fuse: bool = True) -> LoadedModel:
    """Read a checkpoint: classic YOLOv5's, the ultralytics package's, or yoloq's own.

    None of the file's code runs (see `unpickle/`). `fuse` folds batch norm into convolutions.

    Raises:
        CheckpointError: the file cannot be read, is no detection model that yoloq knows, or holds
            NaN or infinite numbers.
    """
    file = Path(path)
    content = _read(file)
    own = isinstance(content, Mapping) and "yoloq" in content
    try:
        model = _from_own(content) if own else _from_pickle(content)
        model = fused(model) if fuse else model
        checkpoint.check_finite(model.net.state_dict())
    except CheckpointError as error:
        raise CheckpointError(f"{file}: {error}") from None
    except Exception as error:  # a damaged description can raise anything
        raise_memory(error)
        reason = f"{type(error).__name__}: {tree.one_line(error)}"
        raise CheckpointError(
            f"{file}: its model cannot be rebuilt ({reason}); "
            "give a file as YOLOv5, the ultralytics package or yoloq saves it"
        ) from error
    return replace(model, sha256=sha256(file))


def fused(model: LoadedModel) -> LoadedModel:
    """The model with batch norm folded into the convolutions (its network changes in place)."""
    fuse_batch_norm(model.net)
    return replace(model, fused=True)


def _read(file: Path) -> Any:
    """The content of a file; of one of another task that is said, whatever else is in it."""
    try:
        return unpickle.read(file)
    except ForeignError as error:
        try:
            checkpoint.check_task(named_in(file))
        except CheckpointError as task:
            raise CheckpointError(f"{file}: {task}") from None
        raise error from None


def _from_own(content: Mapping[str, Any]) -> LoadedModel:
    """Rebuild a model from the content of yoloq's own format."""
    if content["yoloq"] not in FORMATS:
        raise CheckpointError("was written by a newer yoloq; update yoloq to read it")
    return rebuilt(content["meta"], content["state_dict"])


def rebuilt(description: str, tensors: Mapping[str, Tensor]) -> LoadedModel:
    """The model of a description (`describe`), with these tensors.

    Raises:
        CheckpointError: its family is not known, or the tensors do not fit.
    """
    meta = json.loads(description)
    if meta["family"] not in FAMILIES:
        raise CheckpointError(f"is of family {meta['family']!r}; yoloq knows {', '.join(FAMILIES)}")
    if "layers" not in meta["spec"]:
        bounds.check_yaml(meta["spec"])
    with bounds.no_larger_than(tensors.values()):
        model = new_model(meta["family"], meta["spec"], tuple(meta["names"]))
    if meta["fused"]:
        model = fused(model)
    _load_tensors(model.net, tensors)
    model = _with_head(model)
    check_runs(cast(LayeredNet, model.net), model.head)
    return replace(model, imgsz=meta["imgsz"], extra=meta["extra"])


def _from_pickle(content: Any) -> LoadedModel:
    """Rebuild a model from the content of another project's checkpoint."""
    stub, tensors = checkpoint.find_model(content)
    check_weights([*tensors, *pickled.tensors(stub)])
    family = _family_of(stub)
    parts = dict(pickled.modules(stub))
    for name, part in {"model": stub, **parts}.items():
        tree.check_own_code(part, name)
    spec = family.read(stub)
    links.check_links(spec)
    spec, tensors = links.without_unread(spec, family.tensors(tensors))
    with bounds.no_larger_than(tensors.values()):
        model = new_model(family.name, spec, ())
    _load_tensors(model.net, tensors)
    model = _with_head(model)
    in_place = (name for name, part in parts.items() if part.state.get("inplace"))
    check_runs(cast(LayeredNet, model.net), model.head, in_place)
    folded = not any(isinstance(module, nn.BatchNorm2d) for module in model.net.modules())
    names = checkpoint.class_names(stub, model.head.nc)
    return replace(model, names=names, fused=folded, imgsz=checkpoint.image_size(content))


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
    """Load strictly by name, shape and kind; floats are converted to the network's own type."""
    wanted = net.state_dict()
    counters = {n: t for n, t in wanted.items() if n.endswith("num_batches_tracked")}
    tensors = {**counters, **tensors}  # which nothing but training reads
    shapes = {name: tensor.shape for name, tensor in wanted.items()}
    found = {name: tensor.shape for name, tensor in tensors.items()}
    wrong = sorted(name for name in {*shapes, *found} if shapes.get(name) != found.get(name))
    if wrong:
        raise CheckpointError(
            f"{len(wrong)} tensors do not fit the model's own description, such as {wrong[0]!r}; "
            "the file is damaged or comes from changed model code"
        )
    for name, tensor in tensors.items():
        if wanted[name].is_floating_point() != tensor.is_floating_point():
            raise CheckpointError(f"{name!r} holds {tensor.dtype}, where torch computes in floats")
    checkpoint.check_finite(tensors)
    net.load_state_dict(dict(tensors))
    net.float().eval()
