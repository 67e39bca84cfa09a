"""TensorRT for RTX: builds on any machine for GeForce and RTX cards, and runs on one of them.

The code is that of the `tensorrt` engine. What differs: no kernel is measured, so that a build
needs no GPU; a file is for compute capabilities in the place of one kind of GPU; and what was built
is known from the builder alone, for nothing can load a file where there is no GPU.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx

from yoloq.base.errors import EngineError
from yoloq.base.machine import has_gpu
from yoloq.base.say import warn
from yoloq.engines.base import GRAPH_PACKAGES, Compiler, Engine, NodeTime
from yoloq.engines.options import BuildOptions
from yoloq.engines.predictor import Predictor
from yoloq.engines.source import Graph, Source
from yoloq.engines.tensorrt import PLACEMENT
from yoloq.engines.tensorrt.engine_file import build_file
from yoloq.engines.tensorrt.inspector import layer_report
from yoloq.engines.tensorrt.library import RTX
from yoloq.engines.tensorrt.manifest import Target, capability, gpu_name
from yoloq.engines.tensorrt.onnx import tensorrt_onnx
from yoloq.engines.tensorrt.unloaded import UnloadedEngine
from yoloq.graph.channel_scale import scale_behind

SM = "SM"  # how its compute capabilities are called: SM89 is 8.9
TURING = "7.5"  # beside it a file has no int8 convolutions, only FP16 ones behind a rounding


def check_device(device: str) -> None:
    """Find a device that cannot be: a GPU that is asked for by name has to be there.

    Raises:
        EngineError: it is not, or the CPU was asked for.
    """
    if device == "cpu":
        raise EngineError(
            f"--device cpu: the {RTX.engine} engine runs on an NVIDIA GPU; leave it out to build "
            "for GPUs that are not here"
        )
    if device != "auto":
        RTX.gpu(device)


def precisions(device: str) -> tuple[str, ...]:
    """FP32, FP16 and int8 of the Q/DQ graph.

    Raises:
        EngineError: the library or the device cannot be used; says why.
    """
    check_device(device)
    RTX.load()
    return ("fp32", "fp16", "int8")


def check(precisions: Sequence[str], given: Mapping[str, Any]) -> None:
    """Find compute capabilities that the installed version does not know.

    Raises:
        EngineError: there is one; lists those that it knows.
    """
    known = supported(RTX.load())
    for each in given.get("compute", ()):
        if each not in known:
            raise EngineError(f"--compute {each}: {RTX.title} builds for {', '.join(known)} alone")


def supported(trt: ModuleType) -> tuple[str, ...]:
    """The compute capabilities that a version builds for, as in 8.9."""
    names = [name for name in trt.ComputeCapability.__members__ if name.startswith(SM)]
    return tuple(f"{name[len(SM) : -1]}.{name[-1]}" for name in names)


def chosen(options: BuildOptions, device: str) -> tuple[str, ...]:
    """What to build for: what was asked for, else the GPU here, else all but Turing.

    Raises:
        EngineError: as of `check` and `check_device`.
    """
    check((), {"compute": options.compute})
    known = supported(RTX.load())
    here = capability(RTX.gpu(device)) if has_gpu() else ""
    usual = (here,) if here in known else tuple(each for each in known if each != TURING)
    return options.compute or usual


def cannot_run(device: str, options: BuildOptions) -> str:
    """Why what is built with these options cannot be run here; empty where it can."""
    if not has_gpu():
        return f"no GPU to run on ({RTX.no_gpu()})"
    gpu, built = RTX.gpu(device), chosen(options, device)
    if capability(gpu) in built:
        return ""
    return (
        f"no GPU to run on ({gpu_name(gpu)} has compute capability {capability(gpu)}, not "
        f"{' or '.join(built)})"
    )


def lower(source: Source, precision: str) -> onnx.ModelProto:
    """The graph of the `tensorrt` engine; in int8 its convolutions then write FP16.

    Raises:
        PolicyError, EngineError: as of `tensorrt_onnx`.
    """
    model = tensorrt_onnx(source, precision)
    return scale_behind(model) if precision == "int8" else model


def build(graph: Graph, folder: Path) -> Path:
    """Build an engine for the compute capabilities of the options.

    Raises:
        EngineError: the library cannot be used or cannot build the network; says why.
    """
    source = graph.source
    built = chosen(source.options, source.device)
    if TURING in built and graph.precision == "int8":
        warn(
            f"{RTX.engine} int8: for {TURING} (Turing) the library builds no int8 convolutions, "
            "and so for all that --compute names beside it; leave 75 out, or take fp16 there"
        )
    return build_file(RTX, graph, folder, Target(None, built))


def load(file: Path, precision: str, device: str, threads: int) -> Predictor:
    """Open a file that `build` wrote; threads of the CPU do not matter.

    Raises:
        EngineError: it is damaged, was built for other GPUs or by another version, or there is no
            GPU to run on.
    """
    from yoloq.engines.tensorrt.runtime import open_engine

    if not has_gpu():
        raise EngineError(f"{file}: no GPU to run on ({RTX.no_gpu()})")
    return open_engine(RTX, file, device)


def unloaded(file: Path, why: str) -> Predictor:
    """A file that cannot be run here, for what it says of itself.

    Raises:
        EngineError: it is damaged.
    """
    return UnloadedEngine(RTX, file, why)


def profile(file: Path, precision: str, device: str, threads: int, runs: int) -> list[NodeTime]:
    """Times of the layers by the library's profiler."""
    from yoloq.engines.tensorrt.profile import profile

    return profile(RTX, file, device, runs)


def types(predictor: Predictor, file: Path, layers: Collection[str]) -> Mapping[str, str]:
    """What each convolution computes in, as the builder said."""
    return layer_report(UnloadedEngine(RTX, file, "").layers(), layers).convolutions


ENGINE = Engine(
    RTX.engine,
    precisions,
    build,
    load,
    {"tensorrt-rtx": ("tensorrt-rtx-cu13-bindings",), **GRAPH_PACKAGES},
    modules=RTX.modules,
    by_name_alone=True,
    lower=lower,
    target="tensorrt",
    keeps_graph=True,
    profile=profile,
    types=types,
    defaults=lambda: PLACEMENT,
    devices=("cuda",),
    install=RTX.install,
    compiler=Compiler(
        ("batch", "max_batch", "workspace", "tf32", "compute"),
        check_device=check_device,
        check=check,
        check_names=lambda options, names: None,
        cannot_run=cannot_run,
        unloaded=unloaded,
    ),
)
