"""Quantize one ONNX model with one peer: `peers_make.py <peer> <folder>`, run in .venv-peers.

The folder holds `fp32.onnx`, `images.npy`, uint8 (n, imgsz, imgsz, 3), and `float.json`, the names
of the nodes that stay in float. The last line printed is the seconds that quantizing took, without
imports and reading.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np


def make_nncf(preset: str, folder: Path) -> float:
    """NNCF's post-training quantization on OpenVINO, its other settings at their defaults."""
    import nncf
    import openvino

    model = openvino.Core().read_model(folder / "fp32.onnx")
    images = np.load(folder / "images.npy")
    dataset = nncf.Dataset([image[None] for image in images])
    began = time.perf_counter()
    quantized = nncf.quantize(
        model,
        dataset,
        preset=nncf.QuantizationPreset(preset),
        target_device=nncf.TargetDevice.CPU,
        subset_size=len(images),
        ignored_scope=nncf.IgnoredScope(names=float_nodes(folder)),
    )
    seconds = time.perf_counter() - began
    openvino.save_model(quantized, folder / f"nncf-{preset}.xml", compress_to_fp16=False)
    return seconds


def make_modelopt(method: str, folder: Path) -> float:
    """ModelOpt's ONNX quantization; float parts stay in FP32, which CPU engines run best."""
    from modelopt.onnx.quantization import quantize

    images = np.load(folder / "images.npy")
    began = time.perf_counter()
    quantize(
        str(folder / "fp32.onnx"),
        calibration_data=images,
        calibration_method=method,
        calibration_eps=["cpu"],
        nodes_to_exclude=float_nodes(folder),
        high_precision_dtype="fp32",
        dq_only=True,
        output_path=str(folder / f"modelopt-{method}.onnx"),
        log_level="ERROR",
    )
    return time.perf_counter() - began


def float_nodes(folder: Path) -> list[str]:
    """Names of the nodes that stay in float."""
    names: list[str] = json.loads((folder / "float.json").read_text(encoding="utf-8"))
    return names


PEERS: dict[str, tuple[Callable[[str, Path], float], str]] = {
    "nncf-performance": (make_nncf, "performance"),
    "nncf-mixed": (make_nncf, "mixed"),
    "modelopt-max": (make_modelopt, "max"),
    "modelopt-entropy": (make_modelopt, "entropy"),
}

if __name__ == "__main__":
    make, setting = PEERS[sys.argv[1]]
    print(make(setting, Path(sys.argv[2])))
