"""One build of an engine, and which of its options a version of TensorRT understands."""

import threading
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch

from ..engines.base import PIP, BuildOptions, Source
from ..errors import EngineError, PolicyError
from ..progress import Phases
from ..quant.hand_set import only_layer, parse_amax
from ..quant.placement import check_patterns, matches
from .bindings import has_builder_precision

IMPLICIT = "int8-implicit"


@dataclass(frozen=True)
class Job:
    """What one build reads and where it keeps what a later one can use.

    Attributes:
        graph: the serialized ONNX that `tensorrt_onnx` made of the source for the precision.
        folder: the run folder, which keeps the timing cache and the calibrated ranges.
        device: the GPU that the engine is for.
        drawn: where its progress goes.
        cancelled: set to end it.
    """

    trt: ModuleType
    source: Source
    precision: str
    graph: bytes
    folder: Path
    device: torch.device
    drawn: Phases
    cancelled: threading.Event

    @property
    def options(self) -> BuildOptions:
        """What the build was told."""
        return self.source.options


INSTEAD = {  # what 10.x calls its own -> what replaced it
    "--precisions int8-implicit": "int8 is the Q/DQ graph that make ptq calibrates",
    "--calibrator": "make ptq ARGS='--calibrator NAME' calibrates the Q/DQ graph",
    "--fp16-layers": "make ptq ARGS='--keep-float PATTERN' leaves layers in FP16",
    "--ranges": "make ptq ARGS='--amax LAYER=VALUE' sets ranges in the Q/DQ graph",
}


def check_options(trt: ModuleType, precision: str, options: BuildOptions) -> None:
    """Find out before anything is built what this version's builder no longer takes.

    Raises:
        EngineError: TensorRT 11 was asked for a calibrator, types of layers, or ranges; says what
            replaced it.
    """
    asked = {
        "--precisions int8-implicit": precision == IMPLICIT,
        "--calibrator": options.calibrator != BuildOptions.calibrator,
        "--fp16-layers": bool(options.fp16_layers),
        "--ranges": bool(options.ranges),
    }
    flag = next((name for name, was_asked in asked.items() if was_asked), None)
    if flag is not None and not has_builder_precision(trt):
        raise EngineError(
            f"{flag}: TensorRT {trt.__version__} takes precision from the ONNX graph alone; "
            f"{INSTEAD[flag]}, or {PIP} tensorrt-cu12==10.16.1.11"
        )


def fp16_layers(job: Job) -> list[str]:
    """The convolutions that the patterns of the options name.

    Raises:
        EngineError: a pattern matches none; near names are listed.
    """
    patterns, names = job.options.fp16_layers, list(job.source.quantized.placement.layers)
    try:
        check_patterns(patterns, names)
    except PolicyError as error:
        raise EngineError(f"--fp16-layers: {error}") from None
    return [name for name in names if any(matches(name, pattern) for pattern in patterns)]


def ranges(job: Job) -> dict[str, float]:
    """Convolution -> amax of its input, given by hand.

    Raises:
        EngineError: one is no number above 0, or names no convolution or several.
    """
    names = list(job.source.quantized.placement.layers)
    result = {}
    try:
        for pattern, amax in parse_amax(job.options.ranges, "--ranges").items():
            result[only_layer(pattern, names, "--ranges")] = amax
    except PolicyError as error:
        raise EngineError(str(error)) from None
    return result
