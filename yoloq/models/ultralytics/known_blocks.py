"""The package's classes that a detection model may hold."""

import contextlib
import importlib
from collections.abc import Iterator

from torch import nn

from yoloq.base.errors import CheckpointError
from yoloq.models.tree import UnknownClassError
from yoloq.models.ultralytics.package import import_ultralytics
from yoloq.models.ultralytics.raw_detect import RawDetect

# The package looks layer names up among all its globals and evaluates the activation's text, so a
# yaml out of a file is checked against these before the package sees it.
LAYERS = frozenset(
    [
        *("Conv", "DWConv", "GhostConv", "Focus", "Bottleneck", "GhostBottleneck", "BottleneckCSP"),
        *("C1", "C2", "C2f", "C3", "C3x", "C3Ghost", "C3TR", "C3k2", "C2fCIB", "RepC3", "A2C2f"),
        *("SPP", "SPPF", "SPPELAN", "ELAN1", "RepNCSPELAN4", "ADown", "AConv", "SCDown"),
        *("PSA", "C2PSA", "C2fPSA", "CBLinear", "CBFuse", "Concat", "Detect", "v10Detect"),
        *("nn.Upsample", "nn.Identity", "nn.MaxPool2d", "nn.ZeroPad2d"),
    ]
)
# What those are made of.
PARTS = frozenset(
    [
        *("LightConv", "ConvTranspose", "RepConv", "C3k", "C3f", "RepBottleneck"),
        *("RepCSP", "RepVGGDW", "CIB", "Attention", "PSABlock", "AAttn", "ABlock"),
        *("TransformerLayer", "TransformerBlock"),
    ]
)
HEADS = ("Detect", "v10Detect")


def package_blocks() -> dict[str, type[nn.Module]]:
    """The classes by name, as far as the installed version of the package has them."""
    import_ultralytics()
    package = importlib.import_module("ultralytics.nn.modules")
    homes = [getattr(package, name) for name in ("block", "conv", "transformer")]
    found = {
        name: getattr(home, name)
        for home in homes
        for name in (LAYERS | PARTS) - set(HEADS)
        if hasattr(home, name)
    }
    return {**found, "RawDetect": RawDetect}


@contextlib.contextmanager
def absent_named() -> Iterator[None]:
    """Say of a class that only other versions of the package have that this is the reason.

    Raises:
        CheckpointError: in the place of the UnknownClassError that was met inside.
    """
    try:
        yield
    except UnknownClassError as error:
        if error.kind not in LAYERS | PARTS:
            raise
        version = importlib.import_module("ultralytics").__version__
        raise CheckpointError(
            f"{error.name!r} is a {error.kind}, which the installed ultralytics {version} has "
            "not: install a newer one (pip install --upgrade ultralytics)"
        ) from None
