"""ONNX Runtime on the CPU: int8 through its QLinear operators, everything else in FP32."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ..errors import EngineError
from ..export import INPUT, export_float
from ..files import replace_when_whole
from ..lowering import lower_integer
from . import runtimes
from .base import METADATA, Engine, ModelInfo, Source, by_one


def precisions(device: str) -> tuple[str, ...]:
    """FP32 and int8: the CPU provider has no 16-bit convolutions.

    Raises:
        EngineError: another device than the CPU was asked for.
    """
    if device not in ("auto", "cpu"):
        raise EngineError(f"--device {device}: the onnxruntime engine runs on the CPU; use cpu")
    return ("fp32", "int8")


def build(source: Source, precision: str, folder: Path) -> Path:
    """Write an ONNX file in the lowering that this engine runs in integers."""
    net = source.net(precision)
    model = export_float(net, source.info.imgsz)
    if precision == "int8":
        model = lower_integer(model, net, source.quantized.outputs)
    onnx.helper.set_model_props(model, {METADATA: source.info.to_json()})
    file = folder / f"onnxruntime-{precision}.onnx"
    with replace_when_whole(file) as temporary:
        onnx.save(model, temporary)
    return file


class OnnxRuntimePredictor:
    """A session on the CPU."""

    float_type = "fp32"

    def __init__(self, session: Any) -> None:
        self.session = session
        self.model = ModelInfo.from_json(session.get_modelmeta().custom_metadata_map[METADATA])

    def __call__(self, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        return by_one(lambda image: self.session.run(None, {INPUT: image}), images)


def load(file: Path, precision: str, device: str, threads: int) -> OnnxRuntimePredictor:
    """Open a file that `build` wrote."""
    onnxruntime = runtimes.onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return OnnxRuntimePredictor(session)


ENGINE = Engine("onnxruntime", precisions, build, load)
