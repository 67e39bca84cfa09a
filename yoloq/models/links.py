"""Which layers a layer reads, as a pickled model says it in `f`, which YOLOv5's parser leaves."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from yoloq.base.errors import CheckpointError
from yoloq.base.say import say


def check_links(spec: Mapping[str, Any]) -> None:
    """Raise a CheckpointError that names the layer which reads no layer before it, nor the image.

    Args:
        spec: `layers`: a node each with `from`, the layer that it reads, or a list of them.
    """
    for index, node in enumerate(spec["layers"]):
        source = node["from"]
        each = source if isinstance(source, list | tuple) else [source]
        if not each or not all(type(i) is int and _reaches(index, i) for i in each):
            raise CheckpointError(
                f"'model.{index}', a {node['class']}, says that it reads layer {source!r} (`f`), "
                "which is none before it: the file is damaged, or comes from changed model code"
            )


def _reaches(index: int, source: int) -> bool:
    """Whether a layer can read what it names: -1 is the one before it, of the first the image."""
    return source < index if source >= 0 else index + source >= min(index - 1, 0)


def without_unread(
    spec: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A spec and its tensors, with an identity in the place of each layer that nothing reads.

    Neither an exported graph nor a result has such layers; their names would be of nothing.
    """
    layers = list(spec["layers"])
    unread: list[int] = []
    for index in range(len(layers) - 2, -1, -1):
        later = [(i, node["from"]) for i, node in enumerate(layers) if i not in unread]
        read = {
            source if source >= 0 else i + source
            for i, sources in later
            for source in ([sources] if isinstance(sources, int) else sources)
        }
        if index not in read:
            unread.append(index)
    for index in unread:
        layers[index] = {"from": -1, "class": "Identity", "attributes": {}, "children": {}}
    if unread:
        say(f"layers {', '.join(map(str, sorted(unread)))} are read by none and left out")
    dropped = tuple(f"model.{index}." for index in unread)
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(dropped)}
    return {**spec, "layers": layers}, kept if dropped else dict(tensors)
