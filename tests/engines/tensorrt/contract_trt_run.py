"""Running an engine over the real enums and signatures of one version of TensorRT."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorrt as trt
import torch
from inspector_samples import version_10, version_11
from tiny_quant import tiny_model
from trt_cuda import MILLISECONDS, Gpu, engine_world, expected
from trt_world import pretend_gpu

from yoloq.base.errors import EngineError
from yoloq.engines.predictor import ModelInfo
from yoloq.engines.tensorrt import bindings, runtime
from yoloq.engines.tensorrt.library import TENSORRT
from yoloq.engines.tensorrt.manifest import Manifest, write_engine
from yoloq.engines.tensorrt.profile import profile

MAJOR = int(trt.__version__.split(".")[0])
SAMPLE = {10: version_10, 11: version_11}[MAJOR]


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3), np.uint8)


class World:
    """A fake GPU, and an engine file for it."""

    def __init__(self, monkeypatch, folder: Path) -> None:
        self.gpu = Gpu()
        self.file = folder / "x.engine"
        self.monkeypatch = monkeypatch
        pretend_gpu(monkeypatch)
        self.gpu.pretend(monkeypatch)

    def open(
        self, batch: int = 1, max_batch: int = 0, floats: bool = False
    ) -> runtime.TensorRtPredictor:
        self.fakes = engine_world(self.gpu, batch, max_batch, SAMPLE(), floats)
        self.monkeypatch.setitem(sys.modules, "tensorrt", self.fakes)
        model = tiny_model()
        head = replace(model.head, strides=(8, 8, 8))  # so that images can be as small
        info = ModelInfo(head, model.names, 8).to_json()
        where = (trt.__version__, "Some GPU", ["9.0"])
        manifest = Manifest(info, "int8", "fp16", "w", "p", *where, batch, max_batch, {})
        write_engine(TENSORRT, self.file, manifest, b"plan")
        return runtime.open_engine(TENSORRT, self.file, "auto")


@pytest.fixture
def world(monkeypatch, tmp_path):
    bindings.logger.cache_clear()
    yield World(monkeypatch, tmp_path)
    bindings.logger.cache_clear()


def same(found, wanted) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize(("batch", "max_batch"), [(1, 0), (4, 0), (4, 4), (2, 4), (1, 3)])
def test_any_number_of_images(count, batch, max_batch, world):
    predictor = world.open(batch, max_batch)
    found = predictor(images(count))
    assert [raw.shape for raw in found] == [(count, 4, 2, 2), (count, 4, 1, 1)]
    assert {raw.dtype for raw in found} == {np.dtype(np.float32)}
    assert same(found, expected(images(count)))
    largest = max(batch, max_batch)
    full, left = divmod(count, largest)
    last = [left if max_batch > batch else batch] if left else []
    assert world.gpu.replayed == [largest if max_batch > batch else batch] * full + last


def test_an_engine_that_takes_floats(world):
    world.gpu.no_capture = "the fake graph repeats runs alone, not torch's conversion"
    predictor = world.open(2, 4, floats=True)
    assert same(predictor(images(7)), expected(images(7)))
    predictor.stopwatch(images(3, seed=1))()
    assert same(predictor(images(3, seed=2)), expected(images(3, seed=2)))


def test_no_images(world):
    assert world.open()(images(0)) == []


def test_results_are_copies_and_the_next_call_is_right_too(world):
    predictor = world.open(4)
    first = predictor(images(3))
    kept = [raw.copy() for raw in first]
    assert same(predictor(images(4, seed=1)), expected(images(4, seed=1)))
    assert same(predictor(images(1, seed=2)), expected(images(1, seed=2)))
    assert same(first, kept)


def test_the_model_travels_with_the_engine(world):
    predictor = world.open(2, 8)
    assert predictor.model.names == tiny_model().names
    assert (predictor.float_type, predictor.batch, predictor.largest) == ("fp16", 2, 8)


def test_a_graph_is_captured_once_for_a_number_of_images_behind_a_warm_up(world):
    predictor = world.open(1, 8)
    for count in (3, 5, 3, 3):
        predictor(images(count))
    warm_up = [3] * runtime.WARMUP + [5] * runtime.WARMUP
    assert world.gpu.enqueued == warm_up
    assert world.gpu.replayed == [3, 5, 3, 3]
    assert len(world.fakes.named("IExecutionContext")) == 2, "a context for each graph"


def test_few_numbers_of_images_are_held_ready(world):
    predictor = world.open(1, 16)
    for count in range(1, runtime.SLOTS + 3):
        assert same(predictor(images(count)), expected(images(count)))
    assert len(predictor._slots) == runtime.SLOTS


@pytest.mark.parametrize("reason", ["refused"])
def test_without_a_graph_it_runs_and_says_so(reason, world, capsys):
    world.gpu.no_capture = reason
    predictor = world.open()
    assert same(predictor(images(2)), expected(images(2)))
    assert world.gpu.replayed == []
    assert world.gpu.enqueued == [1] * (runtime.WARMUP + 2)
    error = capsys.readouterr().err
    assert error.count("warning: no CUDA graph") == 1 and error.count("\n") == 1


def test_stopwatch_replays_the_images_it_was_given(world):
    predictor = world.open(2, 4)
    seconds = predictor.stopwatch(images(3))
    before = len(world.gpu.replayed)
    assert [seconds() for _ in range(5)] == [MILLISECONDS / 1e3] * 5
    assert world.gpu.replayed[before:] == [3] * 5
    slot = predictor._slots[3]
    assert np.array_equal(slot.device_in.numpy(), images(3))


def test_more_images_than_it_takes_cannot_be_timed_as_one(world):
    with pytest.raises(ValueError, match="5 images, but the engine takes 4 at once"):
        world.open(4).stopwatch(images(5))


def test_layers_are_asked_for_as_json(world):
    layers = world.open().layers()
    assert layers[3].precision == "int8" and layers[1].precision == "tf32"


def test_profile_is_the_median_behind_the_warm_up(world):
    world.open()
    nodes = profile(TENSORRT, world.file, "auto", runs=3)
    assert {node.sources[0] for node in nodes} == {"first", "second"}
    # run n reports n for `first`, then n + 0.25 for `second`, then n + 0.5 for `first` again
    middle = runtime.WARMUP + 2
    times = {node.sources[0]: node.ms for node in nodes}
    assert times == {"first": 2 * middle + 0.5, "second": middle + 0.25}
    assert world.gpu.replayed == [], "a profiler sees nothing of a graph"


def test_times_of_layers_that_are_known_by_name_alone(world, monkeypatch, capsys):
    monkeypatch.setattr(sys.modules[__name__], "SAMPLE", lambda: "no JSON")
    world.open()
    nodes = profile(TENSORRT, world.file, "auto", runs=3)
    assert {node.sources[0] for node in nodes} == {"first", "second"}
    [warning] = capsys.readouterr().err.splitlines()
    assert warning.startswith("warning: layers are known by name alone: TensorRT's layer info")


def test_recorder_is_a_profiler():
    recorder = runtime.layer_recorder(trt)
    assert isinstance(recorder, trt.IProfiler)
    for run in (1.0, 2.0):
        recorder.report_layer_time("a", run)
        recorder.report_layer_time("b", 10 * run)
    assert recorder.runs(2) == {"a": [1.0, 2.0], "b": [10.0, 20.0]}


def failing(world, key, answer):
    predictor = world.open()
    world.fakes.behaviours[key] = answer
    return predictor


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("ICudaEngine.create_execution_context", "cannot run 1 images at once.*free memory"),
        ("IExecutionContext.set_input_shape", "cannot run 1 images at once.*--max-batch"),
        ("IExecutionContext.execute_async_v3", "cannot run the engine.*make engine"),
    ],
)
def test_what_tensorrt_refuses_is_one_line(key, words, world):
    predictor = failing(world, key, lambda fake, **_: None)
    with pytest.raises(EngineError, match=words) as caught:
        predictor(images(1))
    assert "\n" not in str(caught.value)


def test_memory_is_too_little_for_the_buffers(world, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2.00 GiB")

    predictor = world.open()
    monkeypatch.setattr(torch, "zeros", full)
    wanted = (
        r"cannot run 1 images at once \(CUDA out of memory. Tried.*\); free memory.*--max-batch"
    )
    with pytest.raises(EngineError, match=wanted) as caught:
        predictor(images(1))
    assert "\n" not in str(caught.value)


def test_a_plan_that_cannot_be_read(world, monkeypatch):
    original = engine_world

    def broken(*args):
        fakes = original(*args)
        fakes.behaviours["Runtime.deserialize_cuda_engine"] = lambda fake, **_: None
        return fakes

    monkeypatch.setattr(sys.modules[__name__], "engine_world", broken)
    with pytest.raises(EngineError, match=r"cannot load the engine.*make engine"):
        world.open()


def test_an_engine_for_another_gpu(world, monkeypatch):
    world.open()
    pretend_gpu(monkeypatch, "Other GPU", "8.6")
    with pytest.raises(EngineError, match="was built for Some GPU"):
        runtime.open_engine(TENSORRT, world.file, "auto")
