"""Real engines of a tiny network in every precision, where there are TensorRT and an NVIDIA GPU."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_quant import as_input, pictures, signal_to_noise
from trt_source import source

from yoloq.base.errors import EngineError
from yoloq.base.say import Phases
from yoloq.engines import get_engine
from yoloq.engines.source import Calibration, Source
from yoloq.engines.tensorrt.bindings import has_builder_precision
from yoloq.engines.tensorrt.library import TENSORRT
from yoloq.engines.tensorrt.manifest import Target, read_engine, write_engine
from yoloq.engines.tensorrt.plan import build_plan
from yoloq.engines.tensorrt.runtime import open_engine
from yoloq.models import FAMILIES

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("tensorrt_machine", "one_thread")]

IMAGES = pictures(3, seed=7)
PRECISIONS = ("fp32", "fp16", "int8-implicit", "int8")


def build(made: Source, precision: str, folder: Path) -> Path:
    """An engine file; skips the test where this version has no such precision."""
    engine = get_engine("tensorrt")
    if precision not in engine.precisions("auto"):
        pytest.skip(f"TensorRT {TENSORRT.load().__version__} does not build {precision}")
    return engine.make(made, precision, folder)


def torch_outputs(net: torch.nn.Module) -> list[NDArray[np.float32]]:
    with torch.inference_mode():
        return [raw.numpy() for raw in net(as_input(IMAGES))]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_engine_computes_what_torch_does(family: str, precision: str, tmp_path: Path) -> None:
    made = source(family)
    predictor = open_engine(TENSORRT, build(made, precision, tmp_path), "auto")
    found = predictor(IMAGES)
    exact = torch_outputs(made.model.net)
    loss = signal_to_noise(exact, torch_outputs(made.quantized.model.net))
    # TensorRT calibrates on its own, with wider or narrower ranges than the project
    least = {"fp32": 80, "fp16": 25, "int8-implicit": loss - 12, "int8": loss - 3}[precision]
    assert signal_to_noise(exact, found) >= least
    convolutions = [layer for layer in predictor.layers() if layer.is_convolution]
    assert convolutions
    if precision == "int8":
        assert any(layer.precision == "int8" for layer in convolutions)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("options", [{"batch": 2}, {"batch": 1, "max_batch": 4}], ids=str)
def test_batches_equal_single_images(precision: str, options, tmp_path: Path) -> None:
    predictor = open_engine(TENSORRT, build(source(**options), precision, tmp_path), "auto")
    together = predictor(IMAGES)
    for index in range(len(IMAGES)):
        for level, found in enumerate(predictor(IMAGES[index : index + 1])):
            wanted = together[level][index : index + 1]
            # other kernels at other numbers of images; one rounding may go the other way
            assert np.abs(found - wanted).max() <= 0.1 * np.abs(wanted).max()


def test_tf32_is_off_unless_asked_for(tmp_path: Path) -> None:
    exact = torch_outputs(source().model.net)
    noise = {}
    for tf32 in (False, True):
        file = build(source(tf32=tf32), "fp32", tmp_path)
        noise[tf32] = signal_to_noise(exact, open_engine(TENSORRT, file, "auto")(IMAGES))
    assert noise[False] >= 80  # 10 bits of mantissa would give about 60
    assert noise[True] > 30


def test_second_build_takes_over_times_and_ranges(tmp_path: Path) -> None:
    precision = "int8-implicit" if has_builder_precision(TENSORRT.load()) else "int8"
    build(source(), precision, tmp_path)
    kept = {file.name for file in tmp_path.iterdir()}
    calibration = Calibration("pictures", 8, lambda: pytest.fail("calibrated again"))
    build(replace(source(), calibration=calibration), precision, tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == kept
    assert any(name.startswith("tensorrt-timing-") for name in kept)


def test_layers_in_fp16_and_ranges_by_hand(tmp_path: Path) -> None:
    plain = open_engine(TENSORRT, build(source(), "int8-implicit", tmp_path), "auto")(IMAGES)
    options = {"fp16_layers": ("model.2", "model.4"), "ranges": ("model.6.cv1=0.01",)}
    changed = open_engine(TENSORRT, build(source(**options), "int8-implicit", tmp_path), "auto")(
        IMAGES
    )
    assert any(not np.array_equal(a, b) for a, b in zip(plain, changed, strict=True))


def test_calibration_is_no_option_of_11(tmp_path: Path) -> None:
    if has_builder_precision(TENSORRT.load()):
        pytest.skip("TensorRT 10.x has calibrators")
    with pytest.raises(EngineError, match=r"--calibrator: .*make ptq"):
        build(source(calibrator="minmax"), "int8", tmp_path)


def test_graph_that_tensorrt_cannot_parse_is_explained(tmp_path: Path) -> None:
    target = Target.of(TENSORRT.gpu("auto"))
    with pytest.raises(EngineError, match=r"cannot parse the ONNX graph: .+") as caught:
        build_plan(TENSORRT, source(), "fp32", b"no graph", tmp_path, target)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_plan_that_tensorrt_cannot_load_is_explained(tmp_path: Path) -> None:
    file = build(source(), "fp16", tmp_path)
    manifest, plan = read_engine(TENSORRT, file)
    write_engine(TENSORRT, file, manifest, plan[: len(plan) // 2])
    with pytest.raises(EngineError, match="cannot load the engine"):
        open_engine(TENSORRT, file, "auto")
    write_engine(TENSORRT, file, replace(manifest, version="10.0.1.6"), plan)
    with pytest.raises(EngineError, match=r"was built with TensorRT 10.0.1.6"):
        open_engine(TENSORRT, file, "auto")


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_ends_a_build(tmp_path: Path, monkeypatch) -> None:
    sent = []

    def start(phases: Phases, name: str, parent: str | None, steps: int) -> None:
        if not sent:
            sent.append(os.kill(os.getpid(), signal.SIGINT))

    monkeypatch.setattr(Phases, "start", start)
    with pytest.raises(KeyboardInterrupt):
        build(source(), "fp16", tmp_path)
    assert not list(tmp_path.iterdir())


def test_profile_names_the_layers(tmp_path: Path) -> None:
    engine = get_engine("tensorrt")
    file = build(source(), "int8", tmp_path)
    assert engine.profile is not None
    nodes = engine.profile(file, "int8", "auto", 1, 10)
    assert sum(node.ms for node in nodes) > 0
    assert any(name.startswith("/net/model.") for node in nodes for name in node.sources)
