"""OpenVINO on Intel and AMD CPUs (and Arm): the default engine of a machine without a GPU."""

import functools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError
from ..export import export_float
from ..files import replace_when_whole, writing
from ..lowering import lower_minimal
from . import runtimes
from .base import METADATA, Engine, ModelInfo, Source, by_one

HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}


@functools.cache
def core() -> Any:
    """The process's only `Core`, alive to its end.

    On a CPU with AMX each core gives the thread a larger stack for signals and, when it goes, puts
    back the one it found. With two cores the first to go frees the stack that the second puts back,
    and the next signal (a worker process that ends sends one) kills the process. Seen with 2026.4.
    """
    return runtimes.openvino().Core()


def sixteen_bit() -> str | None:
    """The 16-bit type that this CPU computes in, as OpenVINO reports it."""
    capabilities = core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return next((name for name in ("bf16", "fp16") if name.upper() in capabilities), None)


def precisions(device: str) -> tuple[str, ...]:
    """FP32, the CPU's 16-bit type where it has one, int8.

    Raises:
        EngineError: another device than the CPU was asked for.
    """
    if device not in ("auto", "cpu"):
        raise EngineError(f"--device {device}: the openvino engine runs on the CPU; use cpu")
    half = sixteen_bit()
    return ("fp32", half, "int8") if half else ("fp32", "int8")


def build(source: Source, precision: str, folder: Path) -> Path:
    """Write OpenVINO's .xml and .bin; a 16-bit model also stores its weights in 16 bits."""
    openvino = runtimes.openvino()
    onnx_model = export_float(source.net(precision), source.info.imgsz)
    if precision == "int8":
        onnx_model = lower_minimal(onnx_model, source.net(precision))
    model = core().read_model(onnx_model.SerializeToString())
    model.set_rt_info(source.info.to_json(), METADATA)
    file = folder / f"openvino-{precision}.xml"
    with replace_when_whole(file) as description, replace_when_whole(_weights(file)) as weights:
        with tempfile.TemporaryDirectory(dir=folder) as whole:
            pair = Path(whole) / file.name
            with writing(file):
                openvino.save_model(model, pair, compress_to_fp16=precision in ("bf16", "fp16"))
            pair.replace(description)
            _weights(pair).replace(weights)
        file.unlink(missing_ok=True)  # an .xml never stands beside the .bin of another model
    return file


def _weights(file: Path) -> Path:
    """Where OpenVINO looks for the weights of an .xml file."""
    return file.with_suffix(".bin")


class OpenVINOPredictor:
    """A compiled model and one inference request."""

    def __init__(self, compiled: Any, model: ModelInfo, float_type: str) -> None:
        self.request = compiled.create_infer_request()
        self.model = model
        self.float_type = float_type

    def __call__(self, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        return by_one(self._run, images)

    def _run(self, image: NDArray[np.uint8]) -> list[NDArray[Any]]:
        result = self.request.infer(image, share_inputs=True, share_outputs=True)
        return list(result.values())


def load(file: Path, precision: str, device: str, threads: int) -> OpenVINOPredictor:
    """Compile a file that `build` wrote, for latency.

    The float layers of an int8 model run in the CPU's 16-bit type where it has one.
    """
    model = core().read_model(file)
    float_type = (sixteen_bit() or "fp32") if precision == "int8" else precision
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": HINTS[float_type],
        "INFERENCE_NUM_THREADS": threads,
    }
    info = ModelInfo.from_json(model.get_rt_info(METADATA).value)
    return OpenVINOPredictor(core().compile_model(model, "CPU", options), info, float_type)


ENGINE = Engine("openvino", precisions, build, load)
