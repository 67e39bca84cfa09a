"""What a family of detectors is, and the table of them as rows."""

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from yoloq.models import FAMILIES
from yoloq.models.heads import Head
from yoloq.models.unpickle import Stub


@dataclass(frozen=True)
class Family:
    """What the rest of the project needs to know about a family of detectors.

    Attributes:
        name: as in `FAMILIES`.
        build: spec -> the float network: (N, 3, H, W) in 0..1 -> list of raw maps (N, C, H, W). Its
            attribute `spec` describes it in whole, by classes and attributes of its modules.
        head: network -> how those maps are decoded.
        classes: the pickled model classes that belong to the family.
        read: stub of one of these -> its spec.
        tensors: all tensors of a pickled model by name -> those that its network has.
        spec: size (n, s, m, l, x) and number of classes -> spec of the published network.
        with_classes: a network's spec, number of classes -> spec of its like for that many.
        prior: sets the start values of a network's fresh head, in place.
    """

    name: str
    build: Callable[[Mapping[str, Any]], nn.Module]
    head: Callable[[nn.Module], Head]
    classes: tuple[str, ...]
    read: Callable[[Stub], dict[str, Any]]
    tensors: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
    spec: Callable[[str, int], dict[str, Any]]
    with_classes: Callable[[Mapping[str, Any], int], dict[str, Any]]
    prior: Callable[[nn.Module], None]


def get_family(name: str) -> Family:
    """The row of a family: its module's functions under their usual names."""
    m = importlib.import_module(FAMILIES[name])
    return Family(
        name=name,
        build=m.build,
        head=m.head,
        classes=m.CLASSES,
        read=m.read,
        tensors=m.tensors,
        spec=m.spec,
        with_classes=m.with_classes,
        prior=m.prior,
    )


def families() -> Iterator[Family]:
    """All rows."""
    return map(get_family, FAMILIES)
