"""Real engines on a real GPU: built, held against their ONNX, timed, profiled."""

from pathlib import Path

import numpy as np
import pytest
from tiny_quant import pictures, signal_to_noise
from trt_source import source

from yoloq.engines import get_engine
from yoloq.measure.layer_times import layer_times
from yoloq.models import FAMILIES
from yoloq.stages.engine.build import write_onnx
from yoloq.stages.engine.gate import Gate, run_onnx

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("tensorrt_machine")]

IMAGES = pictures(5, seed=7)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_precision_computes_what_its_onnx_says(family: str, tmp_path: Path) -> None:
    engine, subject = get_engine("tensorrt"), source(family)
    onnx = write_onnx({"ptq": subject}, True, tmp_path)
    gate = Gate(subject.info.head, tmp_path, onnx, IMAGES, 1)
    exact = run_onnx(tmp_path / onnx["onnx-fp32"], IMAGES, 1)
    for precision in engine.precisions("auto"):
        predictor = engine.load(engine.make(subject, precision, tmp_path), precision, "auto", 1)
        assert predictor.model == subject.info
        gate.check("tensorrt", precision, predictor)
        least = {"fp32": 80, "fp16": 40}.get(precision, 10)  # dB
        assert signal_to_noise(exact, predictor(IMAGES)) >= least


@pytest.mark.parametrize(("batch", "max_batch"), [(1, 0), (4, 0), (2, 4)])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_batches(precision: str, batch: int, max_batch: int, tmp_path: Path) -> None:
    engine, subject = get_engine("tensorrt"), source(batch=batch, max_batch=max_batch)
    predictor = engine.load(engine.make(subject, precision, tmp_path), precision, "auto", 1)
    together = predictor(IMAGES)
    singles = [predictor(IMAGES[i : i + 1]) for i in range(len(IMAGES))]
    for level, found in enumerate(together):
        wanted = np.concatenate([raws[level] for raws in singles])
        assert np.abs(found - wanted).max() <= 0.1 * np.abs(wanted).max()
    seconds = predictor.stopwatch(IMAGES[:batch])
    assert all(0 < seconds() < 1 for _ in range(20))
    assert all(slot.graph is not None for slot in predictor._slots.values())


def test_layers_and_profile(tmp_path: Path) -> None:
    engine, subject = get_engine("tensorrt"), source()
    file = engine.make(subject, "int8", tmp_path)
    layers = engine.load(file, "int8", "auto", 1).layers()
    assert any(layer.is_convolution and layer.precision == "int8" for layer in layers)
    assert all(layer.kind for layer in layers), "built with detailed verbosity"
    names = subject.quantized.placement.layers
    times = layer_times(engine.profile(file, "int8", "auto", 1, 5), names)
    assert times.total > 0
    assert sum(ms > 0 for ms in times.layers.values()) > len(names) / 2
