"""Model families: a file or folder each with the functions of `family.Family`, and a row here."""

import importlib
from typing import Any

FAMILIES = {  # name -> module; imported when used
    "yolov5": "yoloq.models.yolov5",
    "ultralytics": "yoloq.models.ultralytics",
}
SWAPS = {"hardswish": "Hardswish", "relu": "ReLU"}  # what `make swap` puts for SiLU -> its class
FRONT = ("LoadedModel", "load_model", "new_model", "save_model")  # of `load`, for users' scripts


def __getattr__(name: str) -> Any:
    """What is in front of `load`, imported when used: the tables are read before torch is."""
    if name in FRONT:
        return getattr(importlib.import_module("yoloq.models.load"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
