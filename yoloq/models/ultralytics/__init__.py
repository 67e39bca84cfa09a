"""Detection models of the ultralytics package: YOLOv5u, v8, 11, 26 and others with its Detect head.

The package's layers are kept and its inference code is dropped, so that `forward` gives the raw
head in training and evaluation alike. Of a head with two branches (v10, 26) the one-to-many branch
stays, which wants NMS as all others do.
"""

import copy
from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor, nn

from yoloq.base.errors import CheckpointError
from yoloq.models import pickled, tree
from yoloq.models.activations import activation
from yoloq.models.heads.dfl import DflHead
from yoloq.models.layered import LayeredNet
from yoloq.models.residuals import name_residuals
from yoloq.models.ultralytics.known_blocks import HEADS, LAYERS, absent_named, package_blocks
from yoloq.models.ultralytics.package import import_ultralytics
from yoloq.models.ultralytics.raw_detect import RawDetect, raw_head
from yoloq.models.unpickle import Stub

CLASSES = (
    "ultralytics.nn.tasks.DetectionModel",
    "ultralytics.nn.tasks.YOLOv10DetectionModel",
)


class UltralyticsNet(LayeredNet):
    """A network of the package, ending at the raw head: maps (N, 4 * reg_max + nc, H, W).

    Args:
        spec: `layers`: a `tree.Node` each with `from`, the layers that it reads; the last one a
            RawDetect. Or a model yaml of the package, with `nc` and `scale`.
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        if "layers" in spec:
            self_spec, layers = dict(spec), _described_layers(spec)
        else:
            layers, sources = _package_layers(spec)
            self_spec = {"layers": describe_layers(layers, sources)}
        super().__init__(nn.Sequential(*layers), [node["from"] for node in self_spec["layers"]])
        self.spec = self_spec
        name_residuals(self.model)

    @property
    def detect(self) -> RawDetect:
        return cast(RawDetect, self.model[-1])


def build(spec: Mapping[str, Any]) -> nn.Module:
    """The network of a spec: its described layers, or a model yaml with `nc` and `scale`.

    Raises:
        CheckpointError: it asks for a layer or activation that a detection model has not.
    """
    return UltralyticsNet(spec)


def head(net: nn.Module) -> DflHead:
    """The head of a network of this family."""
    detect = cast(UltralyticsNet, net).detect
    return DflHead(detect.stride, detect.nc, detect.reg_max)


def read(model: Stub) -> dict[str, Any]:
    """The spec of a pickled model: what its layers say of themselves, not what its yaml says.

    Raises:
        CheckpointError: a layer is not supported.
    """
    layers = pickled.layers(model, HEADS)
    sources = [layer.state.get("f", -1) for layer in layers]
    return {"layers": describe_layers([*layers[:-1], raw_head(layers[-1])], sources)}


def tensors(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that the network has: a head's other branch and its bins are left out."""
    unused = (".dfl.", ".one2one_cv2.", ".one2one_cv3.")
    return {
        name: value
        for name, value in found.items()
        if not any(part in f".{name.split('.', 2)[-1]}" for part in unused)
    }


def spec(size: str, nc: int) -> dict[str, Any]:
    """The spec of YOLOv5u of a size."""
    return package_spec(f"yolov5{size}", nc)


def with_classes(spec: Mapping[str, Any], nc: int) -> dict[str, Any]:
    """The spec of a network for another number of classes."""
    changed = copy.deepcopy(dict(spec))
    detect = changed["layers"][-1]
    detect["attributes"]["nc"] = nc
    for branch in detect["children"]["cv3"]["children"].values():
        *_, last = branch["children"].values()
        last["attributes"]["out_channels"] = nc
    return changed


def prior(net: nn.Module) -> None:
    """Nothing: the package's networks set their own start values."""


def package_spec(name: str, nc: int) -> dict[str, Any]:
    """The spec of one of the package's own models, such as `yolov5n` (YOLOv5u-n) or `yolo11s`."""
    return {**import_ultralytics().yaml_model_load(f"{name}.yaml"), "nc": nc}


def describe_layers(layers: list[Any], sources: list[Any]) -> list[tree.Node]:
    """The data of layers, pickled or live, the last of which is a raw head."""
    blocks = package_blocks()
    with absent_named():
        nodes = [tree.describe(layer, f"model.{i}", blocks) for i, layer in enumerate(layers)]
    return [{"from": s, **node} for s, node in zip(sources, nodes, strict=True)]


def _described_layers(spec: Mapping[str, Any]) -> list[nn.Module]:
    blocks = package_blocks()
    with absent_named():
        return [tree.build(node, blocks, f"model.{i}") for i, node in enumerate(spec["layers"])]


def _package_layers(spec: Mapping[str, Any]) -> tuple[list[nn.Module], list[Any]]:
    """The layers that the package makes of a yaml, and what each reads."""
    _check(spec)
    tasks = import_ultralytics()
    package = tasks.DetectionModel(copy.deepcopy(dict(spec)), ch=3, nc=spec["nc"], verbose=False)
    layers = list(package.model)
    return [*layers[:-1], RawDetect(layers[-1])], [layer.f for layer in layers]


def _check(spec: Mapping[str, Any]) -> None:
    """Raise unless a yaml names only layers and an activation of detection models."""
    for _, _, name, _ in [*spec["backbone"], *spec["head"]]:
        if name not in LAYERS:
            raise CheckpointError(f"layer {name!r} of the model yaml is not one that yoloq knows")
    if spec["head"][-1][2] not in HEADS:
        raise CheckpointError("the model yaml does not end in a Detect head")
    if spec.get("activation"):
        activation(spec["activation"])
