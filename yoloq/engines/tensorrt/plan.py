"""From the ONNX graph of a precision to a serialized plan, with TensorRT 10.x and 11.x, or for RTX.

fp32, fp16 and int8 are strongly typed networks: each type is the one that the graph says, on all
of them. int8-implicit is the calibrated way of 10.x, in which the builder chooses the types.
"""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from yoloq.base.errors import EngineError
from yoloq.base.own_files import MAKE
from yoloq.base.say import phases
from yoloq.engines.options import IMPLICIT
from yoloq.engines.source import Source
from yoloq.engines.tensorrt import implicit
from yoloq.engines.tensorrt.bindings import has_builder_precision, logger, one_line
from yoloq.engines.tensorrt.cache import TimingCache, timing_key
from yoloq.engines.tensorrt.job import Job, check_options, ranges
from yoloq.engines.tensorrt.library import Library
from yoloq.engines.tensorrt.manifest import Target
from yoloq.engines.tensorrt.monitor import cancellable, monitor

GIB = 1 << 30
LISTED = 3  # parser errors that a message shows
OUT_OF_MEMORY = (  # in TensorRT's messages, in lower case
    "outofmemory",
    "out of memory",
    "insufficient memory",
    "memory is insufficient",
    "enough free memory",
    "sufficient workspace",
)
NO_KERNEL = "could not find any implementation"  # in the same; names the layer


def build_plan(
    library: Library,
    source: Source,
    precision: str,
    graph: bytes,
    folder: Path,
    target: Target,
) -> bytes:
    """Build an engine for a target and serialize it; for the arguments see `Job`.

    Raises:
        EngineError: TensorRT cannot parse or build the graph, or there is too little memory; says
            why. Or an option names no convolution, or is none that this version understands.
        KeyboardInterrupt: passed on after TensorRT has ended the build.
    """
    check_options(library, precision, source.options)
    cancelled = threading.Event()
    with phases(f"{library.engine} {precision}: build") as drawn:
        job = Job(library, source, precision, graph, folder, target, drawn, cancelled)
        try:
            return cancellable(lambda: _build(job), cancelled)
        except torch.OutOfMemoryError as error:  # of the images that it calibrates on
            raise EngineError(
                f"{library.engine} {precision}: no memory for {source.options.batch} images at "
                f"once ({one_line(str(error))}); free the GPU, or take a smaller --batch"
            ) from None


def _build(job: Job) -> bytes:
    if not job.target.measures:
        return _serialized(job, {}, job.options.level)
    given = ranges(job) if job.precision == IMPLICIT else {}
    torch.cuda.empty_cache()  # kernels are chosen by the memory that is free
    with torch.cuda.device(job.device):  # a thread has a current device of its own
        if given and not implicit.is_calibrated(job):
            _serialized(job, {}, level=0)  # for its table, into which the ranges then go
        return _serialized(job, given, job.options.level)


def _serialized(job: Job, given: Mapping[str, float], level: int) -> bytes:
    """The plan; `given` are ranges by hand, of implicit INT8 alone."""
    trt = job.trt
    builder = job.library.create("Builder")
    network = builder.create_network(_network_flags(job))
    _parse(job, network)
    config = builder.create_builder_config()
    _configure(job, builder, network, config, level)
    feed = None
    if job.precision == IMPLICIT:
        feed = implicit.configure(job, network, config, given)
    timings = _timings(job, config) if job.target.measures else None
    logger(trt).messages.clear()  # what it said of a cache is no reason of a failure
    plan = builder.build_serialized_network(network, config)
    job.drawn.finish(implicit.PHASE)
    if feed is not None and feed.failure is not None:
        raise feed.failure
    if plan is None:
        raise _failure(job)
    if timings is not None:
        timings.keep()
    return bytes(memoryview(plan))


def _timings(job: Job, config: Any) -> TimingCache:
    return TimingCache(config, job.folder, timing_key(job.trt, job.device))


def _network_flags(job: Job) -> int:
    """10.x has to be asked for strong typing, which its DLA has not; 11.x knows nothing else."""
    if job.precision == IMPLICIT or job.dla is not None or not has_builder_precision(job.trt):
        return 0
    return 1 << int(job.trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def _parse(job: Job, network: Any) -> None:
    """Read the ONNX graph into the network, which keeps the parser and its weights alive.

    Raises:
        EngineError: the parser's first errors, each with its node.
    """
    parser = job.trt.OnnxParser(network, logger(job.trt))
    if parser.parse(job.graph):
        return
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    texts = [f"{e.node_name() or 'graph'} ({e.node_operator()}): {e.desc()}" for e in errors]
    listed = "; ".join(map(one_line, texts[:LISTED])) or logger(job.trt).messages.reason()
    more = f" and {len(texts) - LISTED} more" if len(texts) > LISTED else ""
    raise EngineError(
        f"{job.title}: {job.library.title} {job.trt.__version__} cannot parse the ONNX graph: "
        f"{listed}{more}; {MAKE} lint-onnx TARGET=tensorrt shows what it refuses"
    )


def _configure(job: Job, builder: Any, network: Any, config: Any, level: int) -> None:
    trt, options = job.trt, job.options
    if not options.tf32:
        config.clear_flag(trt.BuilderFlag.TF32)  # on by default
    if options.workspace:
        size = int(options.workspace * GIB)
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, size)
    if job.target.measures:
        config.builder_optimization_level = level
    else:
        _choose_capabilities(job, config)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # for the layer report
    config.progress_monitor = monitor(trt, job.drawn, job.cancelled)
    if job.dla is not None:
        _use_dla(trt, config, job.dla)
    if options.max_batch > options.batch:
        images, batch = network.get_input(0), options.batch
        profile = _profile(builder, images, 1, batch, options.max_batch)
        config.add_optimization_profile(profile)
        if job.precision == IMPLICIT:  # its own: TensorRT writes the best over the other two
            config.set_calibration_profile(_profile(builder, images, batch, batch, batch))


def _use_dla(trt: Any, config: Any, core: int) -> None:
    """Run on a Jetson's DLA what that takes, and the rest on the GPU."""
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = core
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
    if has_builder_precision(trt):  # in a network without strong types
        config.set_flag(trt.BuilderFlag.FP16)


def _choose_capabilities(job: Job, config: Any) -> None:
    """Of TensorRT for RTX, which compiles for GPUs that need not be there."""
    names = [f"SM{each.replace('.', '')}" for each in job.target.capabilities]
    config.num_compute_capabilities = len(names)
    for index, name in enumerate(names):
        config.set_compute_capability(getattr(job.trt.ComputeCapability, name), index)


def _profile(builder: Any, images: Any, *counts: int) -> Any:
    """A profile of the least, the best and the largest number of images."""
    profile = builder.create_optimization_profile()
    low, best, high = ((count, *tuple(images.shape)[1:]) for count in counts)
    profile.set_shape(images.name, min=low, opt=best, max=high)
    return profile


def _failure(job: Job) -> EngineError:
    messages, workspace = logger(job.trt).messages, job.options.workspace
    no_kernel = [text for text in messages.errors if NO_KERNEL in text.lower()]
    # a kernel that did not fit is a warning: another may have
    texts = [*messages.errors, *(messages.warnings if no_kernel else ())]
    short = any(hint in text.lower() for text in texts for hint in OUT_OF_MEMORY)
    if short or (no_kernel and workspace):
        limit = f"--workspace {workspace:g} GiB" if workspace else "the GPU's free memory"
        return EngineError(
            f"{job.title}: no kernel fits into {limit} ({messages.reason()}); give "
            "more with --workspace, free the GPU, or take a smaller --batch"
        )
    if no_kernel:
        return EngineError(
            f"{job.title}: TensorRT has no kernel for a layer "
            f"({one_line(no_kernel[0])}); leave {job.precision} out with --precisions"
        )
    return EngineError(f"{job.title}: the build failed ({messages.reason()})")
