"""TensorRT 10.x and 11.x on NVIDIA GPUs; an engine file is a manifest and TensorRT's plan."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch

from yoloq.base.files import sha256_text
from yoloq.base.say import warn
from yoloq.engines.base import GRAPH_PACKAGES, Compiler, Defaults, Engine, NodeTime
from yoloq.engines.options import IMPLICIT
from yoloq.engines.predictor import Predictor
from yoloq.engines.source import Graph, Source
from yoloq.engines.tensorrt.bindings import (
    INSTALL,
    gpu,
    has_builder_precision,
    logger,
    one_line,
    tensorrt,
)
from yoloq.engines.tensorrt.inspector import layer_report
from yoloq.engines.tensorrt.job import calibrator_of, check_given, check_names, check_options
from yoloq.engines.tensorrt.manifest import Manifest, capability, gpu_name, write_engine
from yoloq.engines.tensorrt.onnx import tensorrt_onnx
from yoloq.engines.tensorrt.plan import build_plan

LISTED = 3  # warnings of TensorRT's that are shown behind a build


def precisions(device: str) -> tuple[str, ...]:
    """FP32, FP16, implicit int8 where this version calibrates, int8 of the Q/DQ graph.

    Raises:
        EngineError: TensorRT or the GPU cannot be used; says why.
    """
    gpu(device)
    implicit = (IMPLICIT,) if has_builder_precision(tensorrt()) else ()
    return ("fp32", "fp16", *implicit, "int8")


def check(precisions: Sequence[str], given: Collection[str]) -> None:
    """Find options that the installed version has no more, or that none of the precisions uses.

    Raises:
        EngineError: there is one; says what replaced it.
    """
    check_given(tensorrt(), precisions, given)


def build(graph: Graph, folder: Path) -> Path:
    """Build an engine for the GPU of this machine.

    Raises:
        EngineError: TensorRT cannot be used or cannot build the network; says why.
    """
    source, precision = graph.source, graph.precision
    trt, device = tensorrt(), gpu(source.device)
    check_options(trt, precision, source.options)
    messages = logger(trt).messages
    messages.take_warned()
    onnx = graph.model.SerializeToString()
    plan = build_plan(trt, source, precision, onnx, source.caches or folder, device)
    _tell(precision, messages.take_warned())
    file = folder / f"tensorrt-{precision}.engine"
    write_engine(file, manifest(source, precision, str(trt.__version__), device), plan)
    return file


def _tell(precision: str, warned: Mapping[str, int]) -> None:
    """Print how many warnings TensorRT gave, and the first ones, each once."""
    if warned:
        first = [f"  {one_line(text)}" for text in warned][:LISTED]
        title = f"tensorrt {precision}: TensorRT gave {sum(warned.values())} warnings"
        last = "  what matters of them shows in the gate and in the list of layers below"
        warn("\n".join([f"{title}, {len(warned)} different; the first:", *first, last]))


def manifest(source: Source, precision: str, version: str, device: torch.device) -> Manifest:
    """What travels with the plan."""
    policy = json.dumps(source.quantized.policy.to_json(), sort_keys=True)
    single = "tf32" if source.options.tf32 else "fp32"
    return Manifest(
        model=source.info.to_json(),
        precision=precision,
        float_type=single if precision == "fp32" else "fp16",
        weights=source.model.sha256,
        policy=sha256_text(policy),
        tensorrt=version,
        gpu=gpu_name(device),
        capability=capability(device),
        batch=source.options.batch,
        max_batch=source.options.max_batch,
        options=asdict(source.options) | {"calibrator": calibrator_of(source.options)},
    )


def load(file: Path, precision: str, device: str, threads: int) -> Predictor:
    """Open a file that `build` wrote; threads of the CPU do not matter.

    Raises:
        EngineError: it is damaged, or was built for another GPU or version of TensorRT.
    """
    from yoloq.engines.tensorrt.runtime import open_engine

    return open_engine(file, device)


def profile(file: Path, precision: str, device: str, threads: int, runs: int) -> list[NodeTime]:
    """Times of the layers by TensorRT's profiler."""
    from yoloq.engines.tensorrt.profile import profile

    return profile(file, precision, device, threads, runs)


def types(predictor: Predictor, file: Path, layers: Collection[str]) -> Mapping[str, str]:
    """What each convolution computes in that a layer names, as TensorRT's inspector has it."""
    from yoloq.engines.tensorrt.runtime import TensorRtPredictor

    assert isinstance(predictor, TensorRtPredictor)
    return layer_report(predictor.layers(), layers).convolutions


OPTIONS = (  # names of `BuildOptions`
    *("batch", "max_batch", "workspace", "tf32", "level"),
    *("calibrator", "fp16_layers", "ranges"),
)
ENGINE = Engine(
    "tensorrt",
    precisions,
    build,
    load,
    {"tensorrt": ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"), **GRAPH_PACKAGES},
    lower=tensorrt_onnx,
    target="tensorrt",
    keeps_graph=True,
    profile=profile,
    types=types,
    defaults=partial(
        Defaults,
        symmetric=True,
        float_first=2,
        zero_points=False,
        sharing="concat",
        residual="input",
    ),
    devices=("cuda",),
    install=INSTALL,
    compiler=Compiler(
        OPTIONS,
        check_device=gpu,
        check=check,
        check_names=check_names,
        calibrates=(IMPLICIT,),
    ),
)
