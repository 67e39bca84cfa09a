"""Implicit INT8 of TensorRT 10.x: a calibrator, layers kept in FP16, ranges set by hand."""

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from yoloq.base.errors import EngineError
from yoloq.base.files import sha256_text
from yoloq.engines.options import IMPLICIT
from yoloq.engines.source import Calibration
from yoloq.engines.tensorrt.cache import load_cache
from yoloq.engines.tensorrt.calibrator import Feed, calibrator
from yoloq.engines.tensorrt.job import Job, fp16_layers
from yoloq.graph.names import convolution_of

PHASE = "calibrate"


def is_calibrated(job: Job) -> bool:
    """Whether the run folder has the calibration table of this job."""
    return load_cache(_file(job), _key(job)) is not None


def configure(job: Job, network: Any, config: Any, ranges: Mapping[str, float]) -> Feed:
    """Tell a builder of 10.x to calibrate, and what it shall not choose itself.

    Args:
        ranges: convolution -> amax of what it reads. Whether a tensor's own range or the calibrator
            wins is not documented, so both say it: the table that the calibrator reads back too.

    Returns:
        What feeds the calibrator; it has to live until the engine is built.
    """
    trt = job.trt
    config.set_flag(trt.BuilderFlag.INT8)
    config.set_flag(trt.BuilderFlag.FP16)
    kept = fp16_layers(job)
    layers = convolutions(job, network, {*kept, *ranges}) if kept or ranges else {}
    if kept:
        config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
    for name in kept:
        layers[name].precision = trt.DataType.HALF
        layers[name].set_output_type(0, trt.DataType.HALF)
    tensors = {}
    for name, amax in ranges.items():
        tensor = layers[name].get_input(0)
        tensor.set_dynamic_range(-amax, amax)
        tensors[tensor.name] = amax
    feed = _feed(job, network.get_input(0), tensors)
    config.int8_calibrator = calibrator(trt, job.calibrator, feed)
    return feed


def convolutions(job: Job, network: Any, wanted: Collection[str]) -> dict[str, Any]:
    """Name of each convolution -> its layer in the parsed network.

    Raises:
        EngineError: the network has no layer for a wanted one.
    """
    names = job.source.quantized.placement.layers
    layers = (network.get_layer(index) for index in range(network.num_layers))
    found = {
        convolution_of(layer.name, names): layer
        for layer in layers
        if layer.type == job.trt.LayerType.CONVOLUTION
    }
    if missing := [name for name in names if name in wanted and name not in found]:
        raise EngineError(
            f"--fp16-layers, --ranges: TensorRT {job.trt.__version__} has no layer of its own for "
            f"{', '.join(missing)}; leave it out"
        )
    return found


def _feed(job: Job, images: Any, ranges: Mapping[str, float]) -> Feed:
    calibration = _calibration(job)
    types = {job.trt.DataType.UINT8: torch.uint8, job.trt.DataType.FLOAT: torch.float32}
    shape = (job.options.batch, *tuple(images.shape)[1:])
    buffer = torch.empty(shape, dtype=types[images.dtype], device=job.device)
    job.drawn.start(PHASE, None, calibration.count)
    return Feed(
        calibration.batches(),
        buffer,
        _file(job),
        _key(job),
        ranges,
        job.cancelled,
        lambda done: job.drawn.step(PHASE, done),
    )


def _calibration(job: Job) -> Calibration:
    if job.source.calibration is None:
        raise EngineError(f"tensorrt {IMPLICIT}: needs calibration images, and was given none")
    return job.source.calibration


def _file(job: Job) -> Path:
    return job.folder / f"tensorrt-{job.calibrator}.calibration"


def _key(job: Job) -> str:
    """Hash of what a table depends on; the graph holds the weights."""
    graph = hashlib.sha256(job.graph).hexdigest()
    parts = (_calibration(job).key, job.calibrator, job.trt.__version__, graph)
    return sha256_text(" ".join(parts))
