"""Fixtures that several test files share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def coco_mini() -> Path:
    """Folder of real photographs and the official yolov5n, where the machine has one."""
    folder = os.environ.get("YOLOQ_COCO_MINI")
    if not folder:
        pytest.skip("YOLOQ_COCO_MINI is not set: tests on real images need that folder")
    return Path(folder)
