"""One build of an engine, and which of its options a version of TensorRT understands."""

import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from yoloq.base.errors import EngineError, PolicyError
from yoloq.base.own_files import MAKE
from yoloq.base.say import Phases
from yoloq.engines import PIP
from yoloq.engines.options import IMPLICIT, BuildOptions, dla_core
from yoloq.engines.source import Source
from yoloq.engines.tensorrt.bindings import has_builder_precision
from yoloq.engines.tensorrt.library import Library
from yoloq.engines.tensorrt.manifest import Target
from yoloq.quant.amax_by_hand import only_layer
from yoloq.quant.amax_flag import parse_amax
from yoloq.quant.policy import check_patterns, matches

CALIBRATOR = "entropy"  # the default, which the course had
JETSON = "docs/jetson.md says which machines and versions have one"


def calibrator_of(options: BuildOptions) -> str:
    """How TensorRT calibrates implicit INT8."""
    return options.calibrator or CALIBRATOR


@dataclass(frozen=True)
class Job:
    """What one build reads and where it keeps what a later one can use.

    Attributes:
        graph: the serialized ONNX that `tensorrt_onnx` made of the source for the precision.
        folder: the run folder, which keeps the timing cache and the calibrated ranges.
        target: what the engine is for.
        drawn: where its progress goes.
        cancelled: set to end it.
    """

    library: Library
    source: Source
    precision: str
    graph: bytes
    folder: Path
    target: Target
    drawn: Phases
    cancelled: threading.Event

    @property
    def trt(self) -> ModuleType:
        """The library's module."""
        return self.library.load()

    @property
    def device(self) -> torch.device:
        """The GPU that kernels are measured on."""
        assert self.target.device is not None, "this target has none"
        return self.target.device

    @property
    def title(self) -> str:
        """What messages call the build."""
        return f"{self.library.engine} {self.precision}"

    @property
    def options(self) -> BuildOptions:
        """What the build was told."""
        return self.source.options

    @property
    def dla(self) -> int | None:
        """The core of the DLA that it is for; None: the GPU alone, as in FP32, which no DLA has."""
        return dla_core(self.options.dla, self.precision)

    @property
    def calibrator(self) -> str:
        """How TensorRT calibrates implicit INT8."""
        return calibrator_of(self.options)


FLAGS = {"calibrator": "--calibrator", "fp16_layers": "--fp16-layers", "ranges": "--ranges"}
INSTEAD = {  # what 10.x calls its own -> what replaced it
    f"--precisions {IMPLICIT}": f"int8 is the Q/DQ graph that {MAKE} ptq calibrates",
    "--calibrator": f"{MAKE} ptq ARGS='--calibrator NAME' calibrates the Q/DQ graph",
    "--fp16-layers": f"{MAKE} ptq ARGS='--keep-float PATTERN' leaves layers in FP16",
    "--ranges": f"{MAKE} ptq ARGS='--amax LAYER=VALUE' sets ranges in the Q/DQ graph",
}


def check_given(library: Library, precisions: Sequence[str], given: Mapping[str, Any]) -> None:
    """Find out before anything is built what will not be used.

    Args:
        precisions: that were asked for; none: all.
        given: the `BuildOptions` that were set, by name.

    Raises:
        EngineError: TensorRT 11 was asked for a calibrator, types of layers, or ranges, or 10.x
            for these without the precision that they are of; says what to use.
    """
    _check_version(library, IMPLICIT in precisions, given)
    if "dla" in given:
        _check_dla(library, precisions, given["dla"])
    flag = next((flag for name, flag in FLAGS.items() if name in given), None)
    if flag is not None and precisions and IMPLICIT not in precisions:
        raise EngineError(
            f"{flag}: is of {IMPLICIT} alone, which --precisions {' '.join(precisions)} leaves "
            f"out; add it, or: {INSTEAD[flag]}"
        )


def _check_dla(library: Library, precisions: Sequence[str], core: int) -> None:
    """Find a version whose DLA reads no Q/DQ, and a core that is not there."""
    trt = library.load()
    version = f"{library.title} {trt.__version__}"
    if has_builder_precision(trt) and (not precisions or "int8" in precisions):
        raise EngineError(
            f"--dla {core}: the DLA of {version} reads no Q/DQ; add --precisions fp32 fp16 "
            f"{IMPLICIT}, or take 11.4.1 or newer; {JETSON}"
        )
    cores = library.create("Builder").num_DLA_cores
    if core >= cores:
        raise EngineError(f"--dla {core}: {version} sees {cores} DLA cores here; {JETSON}")


def check_options(library: Library, precision: str, options: BuildOptions) -> None:
    """Find out before one engine is built what this version's builder no longer takes.

    Raises:
        EngineError: as `check_given`, of TensorRT 11.
    """
    default = BuildOptions()
    given = [name for name in FLAGS if getattr(options, name) != getattr(default, name)]
    _check_version(library, precision == IMPLICIT, given)


def _check_version(library: Library, implicit: bool, given: Collection[str]) -> None:
    flags = [f"--precisions {IMPLICIT}"] * implicit
    flags += [flag for name, flag in FLAGS.items() if name in given]
    trt = library.load()
    if flags and not has_builder_precision(trt):
        flag = flags[0]
        raise EngineError(
            f"{flag}: {library.title} {trt.__version__} takes precision from the ONNX graph alone; "
            f"{INSTEAD[flag]}, or {PIP} tensorrt-cu12==10.16.1.11"
        )


def check_names(options: BuildOptions, convolutions: Sequence[str]) -> None:
    """Find slips in names of layers.

    Raises:
        EngineError: as `fp16_layers` and `ranges`.
    """
    _matching(options, convolutions)
    _ranges(options, convolutions)


def fp16_layers(job: Job) -> list[str]:
    """The convolutions that the patterns of the options name.

    Raises:
        EngineError: a pattern matches none; near names are listed.
    """
    return _matching(job.options, list(job.source.quantized.placement.layers))


def _matching(options: BuildOptions, names: Sequence[str]) -> list[str]:
    try:
        check_patterns(options.fp16_layers, names)
    except PolicyError as error:
        raise EngineError(f"--fp16-layers: {error}") from None
    return [name for name in names if any(matches(name, each) for each in options.fp16_layers)]


def ranges(job: Job) -> dict[str, float]:
    """Convolution -> amax of its input, given by hand.

    Raises:
        EngineError: one is no number above 0, or names no convolution or several.
    """
    return _ranges(job.options, list(job.source.quantized.placement.layers))


def _ranges(options: BuildOptions, names: Sequence[str]) -> dict[str, float]:
    try:
        given = parse_amax(options.ranges, "--ranges")
        return {only_layer(name, names, "--ranges"): amax for name, amax in given.items()}
    except PolicyError as error:
        raise EngineError(str(error)) from None
