"""Importing the engines' packages without what their import does to the user.

Importing OpenVINO writes an id into the home folder and sends an event; ONNX Runtime makes a data
base of events to send. Both are switched off, for this process alone.
"""

import importlib
import os
import sys
from typing import Any


def openvino() -> Any:
    """The package, whose telemetry is replaced by the stub it has for when that is missing."""
    telemetry = "openvino_telemetry"
    if "openvino" not in sys.modules and telemetry not in sys.modules:
        sys.modules[telemetry] = None  # type: ignore[assignment]  # Python's way to say: missing
        try:
            return importlib.import_module("openvino")
        finally:
            del sys.modules[telemetry]
    return importlib.import_module("openvino")


def onnxruntime() -> Any:
    """The package, told by its own variable to collect nothing."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    return importlib.import_module("onnxruntime")


def litert() -> Any:
    """LiteRT's interpreter."""
    return importlib.import_module("ai_edge_litert.interpreter")


def litert_schema() -> Any:
    """The classes that a .tflite file is written and read with."""
    return importlib.import_module("ai_edge_litert.schema_py_generated")


def flatbuffers() -> Any:
    """The format that a .tflite file is in."""
    return importlib.import_module("flatbuffers")


def ncnn() -> Any:
    """ncnn's Python binding."""
    return importlib.import_module("ncnn")
