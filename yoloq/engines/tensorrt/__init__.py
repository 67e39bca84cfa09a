"""TensorRT 10.x and 11.x on NVIDIA GPUs; an engine file is a manifest and TensorRT's plan."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from yoloq.engines.base import GRAPH_PACKAGES, Compiler, Defaults, Engine, NodeTime
from yoloq.engines.options import IMPLICIT
from yoloq.engines.predictor import Predictor
from yoloq.engines.source import Graph
from yoloq.engines.tensorrt.bindings import has_builder_precision
from yoloq.engines.tensorrt.engine_file import build_file
from yoloq.engines.tensorrt.inspector import layer_report
from yoloq.engines.tensorrt.job import check_given, check_names
from yoloq.engines.tensorrt.library import TENSORRT
from yoloq.engines.tensorrt.manifest import Target
from yoloq.engines.tensorrt.onnx import tensorrt_onnx


def precisions(device: str) -> tuple[str, ...]:
    """FP32, FP16, implicit int8 where this version calibrates, int8 of the Q/DQ graph.

    Raises:
        EngineError: TensorRT or the GPU cannot be used; says why.
    """
    TENSORRT.gpu(device)
    implicit = (IMPLICIT,) if has_builder_precision(TENSORRT.load()) else ()
    return ("fp32", "fp16", *implicit, "int8")


def check(precisions: Sequence[str], given: Mapping[str, Any]) -> None:
    """Find options that the installed version has no more, or that none of the precisions uses.

    Raises:
        EngineError: there is one; says what replaced it.
    """
    check_given(TENSORRT, precisions, given)


def build(graph: Graph, folder: Path) -> Path:
    """Build an engine for the GPU of this machine.

    Raises:
        EngineError: TensorRT cannot be used or cannot build the network; says why.
    """
    return build_file(TENSORRT, graph, folder, Target.of(TENSORRT.gpu(graph.source.device)))


def load(file: Path, precision: str, device: str, threads: int) -> Predictor:
    """Open a file that `build` wrote; threads of the CPU do not matter.

    Raises:
        EngineError: it is damaged, or was built for another GPU or version of TensorRT.
    """
    from yoloq.engines.tensorrt.runtime import open_engine

    return open_engine(TENSORRT, file, device)


def profile(file: Path, precision: str, device: str, threads: int, runs: int) -> list[NodeTime]:
    """Times of the layers by TensorRT's profiler."""
    from yoloq.engines.tensorrt.profile import profile

    return profile(TENSORRT, file, device, runs)


def types(predictor: Predictor, file: Path, layers: Collection[str]) -> Mapping[str, str]:
    """What each convolution computes in that a layer names, as TensorRT's inspector has it."""
    from yoloq.engines.tensorrt.runtime import TensorRtPredictor

    assert isinstance(predictor, TensorRtPredictor)
    return layer_report(predictor.layers(), layers).convolutions


OPTIONS = (  # names of `BuildOptions`
    *("batch", "max_batch", "workspace", "tf32", "level"),
    *("calibrator", "fp16_layers", "ranges", "dla"),
)
PLACEMENT = Defaults(
    symmetric=True, float_first=2, zero_points=False, sharing="concat", residual="input"
)
ENGINE = Engine(
    TENSORRT.engine,
    precisions,
    build,
    load,
    {"tensorrt": ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"), **GRAPH_PACKAGES},
    modules=TENSORRT.modules,
    lower=tensorrt_onnx,
    target="tensorrt",
    keeps_graph=True,
    profile=profile,
    types=types,
    defaults=lambda: PLACEMENT,
    devices=("cuda",),
    install=TENSORRT.install,
    compiler=Compiler(
        OPTIONS,
        check_device=TENSORRT.gpu,
        check=check,
        check_names=check_names,
        calibrates=(IMPLICIT,),
    ),
)
