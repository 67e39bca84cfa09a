"""What the tests of a build share: a tiny source, and fixtures that let it be built on fakes."""

import functools
import sys
from pathlib import Path

import onnx
import pytest
from tiny_quant import SIZE, pictures, tiny_model, tiny_quantized
from trt_fakes import FakeTensorRT
from trt_world import Build, pretend_gpu, world

from yoloq.engines.options import BuildOptions
from yoloq.engines.predictor import ModelInfo
from yoloq.engines.source import Calibration, Graph, Source
from yoloq.engines.tensorrt import bindings
from yoloq.engines.tensorrt.onnx import tensorrt_onnx


def source(images: int = 5, key: str = "images", **options) -> Source:
    model = tiny_model()
    info = ModelInfo(model.head, model.names, SIZE)
    quantized = tiny_quantized(sharing="concat", residual="input")
    batches = [pictures(images)[i : i + 2] for i in range(0, images, 2)]
    calibration = Calibration(key, images, lambda: iter(batches))
    return Source(info, model, quantized, BuildOptions(**options), calibration)


@functools.cache
def exported(precision: str, batch: int, max_batch: int, dla: int) -> onnx.ModelProto:
    return tensorrt_onnx(source(batch=batch, max_batch=max_batch, dla=dla), precision)


def graph(source: Source, precision: str) -> Graph:
    """What a build takes; lowered once for all tests."""
    options = source.options
    model = exported(precision, options.batch, options.max_batch, options.dla)
    return Graph(source, precision, model)


@pytest.fixture
def build(monkeypatch) -> Build:
    pretend_gpu(monkeypatch)
    return Build()


@pytest.fixture
def fakes(build, monkeypatch):
    made = world(build)
    monkeypatch.setitem(sys.modules, "tensorrt", made)
    bindings.logger.cache_clear()
    yield made
    bindings.logger.cache_clear()


def files(folder: Path) -> set[str]:
    """Names of the files in a folder."""
    return {file.name for file in folder.iterdir()}


def flags(fakes: FakeTensorRT) -> set:
    """The builder flags that were set."""
    return {bound["flag"] for bound in fakes.called("IBuilderConfig", "set_flag")}
