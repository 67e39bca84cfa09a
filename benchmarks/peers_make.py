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
from typing import Any

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


def make_nncf_onnx(preset: str, folder: Path) -> float:
    """The same on the ONNX file itself."""
    import nncf
    import onnx

    model = onnx.load(folder / "fp32.onnx")
    images = np.load(folder / "images.npy")
    name = model.graph.input[0].name
    began = time.perf_counter()
    quantized = nncf.quantize(
        model,
        nncf.Dataset([{name: image[None]} for image in images]),
        preset=nncf.QuantizationPreset(preset),
        subset_size=len(images),
        ignored_scope=nncf.IgnoredScope(names=float_nodes(folder)),
    )
    seconds = time.perf_counter() - began
    onnx.save(quantized, folder / "nncf-onnx.onnx")
    return seconds


def make_modelopt(method: str, folder: Path) -> float:
    """ModelOpt's ONNX quantization; float parts stay in FP32, which CPU engines run best."""
    options = {"calibration_method": method, "high_precision_dtype": "fp32", "dq_only": True}
    return _modelopt(folder, f"modelopt-{method}.onnx", **options)


def make_modelopt_fp16(method: str, folder: Path) -> float:
    """ModelOpt's ONNX quantization as it comes: float parts in FP16."""
    return _modelopt(folder, "modelopt-fp16.onnx", calibration_method=method)


def _modelopt(folder: Path, name: str, **options: Any) -> float:
    from modelopt.onnx.quantization import quantize

    images = np.load(folder / "images.npy")
    began = time.perf_counter()
    quantize(
        str(folder / "fp32.onnx"),
        calibration_data=images,
        calibration_eps=["cpu"],
        nodes_to_exclude=float_nodes(folder),
        output_path=str(folder / name),
        log_level="ERROR",
        **options,
    )
    return time.perf_counter() - began


def float_nodes(folder: Path) -> list[str]:
    """Names of the nodes that stay in float."""
    names: list[str] = json.loads((folder / "float.json").read_text(encoding="utf-8"))
    return names


PEERS: dict[str, tuple[Callable[[str, Path], float], str]] = {
    "nncf-performance": (make_nncf, "performance"),
    "nncf-mixed": (make_nncf, "mixed"),
    "nncf-onnx": (make_nncf_onnx, "performance"),
    "modelopt-max": (make_modelopt, "max"),
    "modelopt-entropy": (make_modelopt, "entropy"),
    "modelopt-fp16": (make_modelopt_fp16, "max"),
}

if __name__ == "__main__":
    make, setting = PEERS[sys.argv[1]]
    print(make(setting, Path(sys.argv[2])))
