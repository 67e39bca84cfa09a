"""The ultralytics package, imported without what its import does to the process."""

import contextlib
import importlib
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from typing import Any

import torch


def import_ultralytics() -> Any:
    """The package's module `ultralytics.nn.tasks`, imported without its side effects.

    The import writes settings to the user's configuration folder, may look up hosts, replaces
    `torch.save` (and `torch.load`, up to 8.3) and changes environment variables, warnings, print
    options and OpenCV's threads; here it writes to a temporary folder, and the rest is put back.
    """
    if "ultralytics.nn.tasks" not in sys.modules:
        with _contained():
            importlib.import_module("ultralytics.nn.tasks")
    return sys.modules["ultralytics.nn.tasks"]


@contextlib.contextmanager
def _contained() -> Iterator[None]:
    """Give the package a temporary folder and put process-wide settings back at the end."""
    import cv2
    import numpy as np

    environment, threads = dict(os.environ), cv2.getNumThreads()
    patched = [(torch, "save"), (torch, "load")]
    patched += [(cv2, name) for name in ("imread", "imwrite", "imshow")]
    originals = [getattr(module, name) for module, name in patched]
    with (
        tempfile.TemporaryDirectory(prefix="yoloq-") as folder,
        np.printoptions(),
        warnings.catch_warnings(),
    ):
        os.environ.update(
            YOLO_OFFLINE="1",
            YOLO_AUTOINSTALL="false",
            YOLO_VERBOSE="false",
            YOLO_CONFIG_DIR=folder,
            MPLCONFIGDIR=folder,
        )
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(environment)
            cv2.setNumThreads(threads)
            torch.set_printoptions(profile="default")
            for (module, name), original in zip(patched, originals, strict=True):
                setattr(module, name, original)
