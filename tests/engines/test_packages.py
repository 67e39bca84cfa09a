"""Importing an engine's package through yoloq leaves nothing in the user's home folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

USE = {
    "openvino": "packages.openvino().Core()",
    "onnxruntime": "packages.onnxruntime().get_available_providers()",
}


@pytest.mark.parametrize("name", USE)
def test_import_writes_nothing_at_home(name: str, tmp_path: Path) -> None:
    code = f"from yoloq.engines import packages; {USE[name]}; import {name}"
    hidden = ("CI", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    home = {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path)}
    subprocess.run([sys.executable, "-B", "-c", code], env=environment | home, check=True)
    assert not list(tmp_path.iterdir())
