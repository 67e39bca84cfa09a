"""The gate: engines that compute what their ONNX says pass, planted faults are named."""

import copy
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_quant import SIZE, USUAL, as_input, pictures, tiny_model, tiny_quantized
from tiny_set import TinySet

from yoloq.__main__ import main
from yoloq.base.errors import EngineError
from yoloq.base.own_files import ROOT
from yoloq.base.result import Row, read_result
from yoloq.data.synthetic import draw_example
from yoloq.engines import get_engine
from yoloq.engines.predictor import ModelInfo
from yoloq.engines.source import Source
from yoloq.models import FAMILIES
from yoloq.models.heads.anchor import AnchorHead
from yoloq.models.load import load_model
from yoloq.quant.calibrate import calibrate
from yoloq.quant.observer import collect
from yoloq.quant.policy import conv_layers, default_policy
from yoloq.quant.quantized import QuantizedModel, quantize_model
from yoloq.quant.trace import sibling_groups, trace
from yoloq.stages.engine import build as building
from yoloq.stages.engine import stage as engine
from yoloq.stages.engine.build import write_onnx
from yoloq.stages.engine.gate import Gate, check_all, differences, warn_if_off

pytestmark = pytest.mark.usefixtures("one_thread")

IMAGES = pictures(4, seed=7)
HEAD = AnchorHead((8, 16), (((10.0, 20.0),), ((50.0, 60.0),)), 2)


def maps(seed: int = 0, images: int = 2) -> list[np.ndarray]:
    """Raw maps of 6 x 6 and 3 x 3 cells, half of them sure of a box."""
    rng = np.random.default_rng(seed)
    found = [rng.normal(0, 1, (images, 7, side, side)).astype(np.float32) for side in (6, 3)]
    for raw in found:
        raw[:, 4] = np.where(raw[:, 4] > 0, 4, -8)
    return found


def faulty(raws: list[np.ndarray], level: int, channels: slice, by: float) -> list[np.ndarray]:
    result = [raw.copy() for raw in raws]
    result[level][:, channels] += by
    return result


def test_equal_maps_do_not_differ() -> None:
    found = differences(HEAD, maps(), maps())
    assert [item.stride for item in found] == [8, 16]
    assert all(item.boxes >= 10 for item in found)
    assert [(item.moved, item.scores) for item in found] == [(0, 0), (0, 0)]


def test_moved_boxes_do_not_count_as_scores() -> None:
    first, second = differences(HEAD, maps(), faulty(maps(), 1, slice(0, 4), 3.0))
    assert first.moved == 0 and first.scores == 0
    assert second.moved > 0.3 and second.scores == 0


def test_changed_scores_do_not_count_as_boxes() -> None:
    first, second = differences(HEAD, maps(), faulty(maps(), 0, slice(4, 5), -9.0))
    assert first.moved == 0 and first.scores > 0.3
    assert second.moved == 0 and second.scores == 0


def test_iou_is_that_of_the_box_at_the_same_place() -> None:
    """A box twice as wide and as high has a quarter of the area in common."""
    reference = maps()
    reference[0][:, :4] = 0  # each box is its anchor
    other = [raw.copy() for raw in reference]
    other[0][:, 2:4] = np.log(np.sqrt(2) / (2 - np.sqrt(2)))  # (2 sigmoid)^2 = 2
    first, _ = differences(HEAD, reference, other)
    assert first.moved == pytest.approx(0.75, abs=1e-5)


@pytest.mark.parametrize(("channels", "part"), [(slice(0, 4), "moved"), (slice(4, 5), "scores")])
def test_what_is_no_number_differs(channels: slice, part: str) -> None:
    first, _ = differences(HEAD, maps(), faulty(maps(), 0, channels, np.nan))
    assert getattr(first, part) > 0.25


def test_few_boxes_say_nothing() -> None:
    quiet = maps()
    quiet[1][:, 4] = -8
    quiet[1][0, 4, 0, :2] = 4
    _, second = differences(HEAD, quiet, faulty(quiet, 1, slice(0, 4), 3.0))
    assert (second.boxes, second.moved) == (4, 0), "two boxes of two classes each"


@pytest.fixture(scope="module", params=FAMILIES)
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A source, the folder with its ONNX files, and their gate."""
    model, quantized = tiny_model(request.param), tiny_quantized(request.param)
    source = Source(ModelInfo(model.head, model.names, SIZE), model, quantized)
    folder = tmp_path_factory.mktemp("onnx")
    files = write_onnx({"ptq": source}, True, folder)
    assert files == {"onnx-fp32": "model-fp32.onnx", "onnx-int8": "model-int8.onnx"}
    gate = Gate(model.head, folder, files, IMAGES, 1)
    return SimpleNamespace(source=source, folder=folder, gate=gate)


@pytest.fixture(scope="module", params=["openvino", "onnxruntime"])
def engines(request: pytest.FixtureRequest, subject: Any) -> dict[str, Any]:
    pytest.importorskip(request.param)
    row = get_engine(request.param)
    built = {p: row.make(subject.source, p, subject.folder) for p in row.precisions("cpu")}
    return {p: row.load(file, p, "cpu", 1) for p, file in built.items()}


def test_healthy_engines_pass_with_a_margin(subject: Any, engines: dict[str, Any]) -> None:
    for key, predictor in engines.items():
        for item in subject.gate.check("x", key, predictor):
            assert item.boxes >= 10
            assert item.moved < 0.015 and item.scores < 0.015  # a half of the fixed margin


def misread(raws: list[np.ndarray], head: Any) -> list[np.ndarray]:
    """Boxes from values that belong elsewhere; scores stay."""
    result = [raw.copy() for raw in raws]
    for level, raw in enumerate(result):
        mask = head.box_channels(level)
        raw[:, mask] = np.random.default_rng(level).normal(0, 4, raw[:, mask].shape)
    return result


def silenced(raws: list[np.ndarray], head: Any) -> list[np.ndarray]:
    """No scores; boxes stay."""
    result = [raw.copy() for raw in raws]
    for level, raw in enumerate(result):
        raw[:, ~head.box_channels(level)] = -9
    return result


@pytest.mark.parametrize("key", ["fp32", "int8"])
@pytest.mark.parametrize(("fault", "word"), [(misread, "boxes"), (silenced, "scores")])
def test_a_planted_fault_is_named(
    key: str, fault: Callable[..., Any], word: str, subject: Any, engines: dict[str, Any]
) -> None:
    head = subject.source.info.head
    with pytest.raises(EngineError) as caught:
        subject.gate.check("openvino", key, lambda images: fault(engines[key](images), head))
    text = str(caught.value)
    assert "\n" not in text
    assert f"openvino {key}: its {word} are not those of model-{key}.onnx" in text
    assert "--precisions" in text and "at stride" in text


def test_poor_ranges_of_an_engine_s_own_are_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Entropy's for every convolution, as TensorRT calibrates; nothing is computed wrongly."""
    model = load_model(ROOT / "weights" / "yolov5n.pt")
    drawn = [draw_example(np.random.default_rng(i), 320)[0] for i in range(4)]
    images = np.ascontiguousarray(np.stack(drawn)[..., ::-1])  # they are BGR
    groups, batches = sibling_groups(trace(model.net)), [as_input(images)]
    inputs = collect(model.net, groups, batches, len(images)).inputs

    def quantized(calibrator: str, **placement: Any) -> QuantizedModel:
        own = replace(model, net=copy.deepcopy(model.net))
        made = quantize_model(own, default_policy(conv_layers(own.net), **USUAL | placement))
        calibrate(own.net, made.placement, inputs, calibrator)
        return made

    source = Source(ModelInfo(model.head, model.names, 320), model, quantized("mse"))
    gate = Gate(model.head, tmp_path, write_onnx({"ptq": source}, True, tmp_path), images, 1)
    implicit = quantized("entropy", float_first=0, float_head=False).model.net

    def run(images: np.ndarray) -> list[np.ndarray]:
        with torch.inference_mode():
            return [raw.numpy() for raw in implicit(as_input(images))]

    found = gate.check("tensorrt", "int8-implicit", run, own=True)
    assert found[0].scores > 4 * gate.scores + 0.05
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "warning: tensorrt int8-implicit: its scores are not those of model-fp32"
    )
    for text in ("mean IoU 0.9", f"scores differ by {found[0].scores:.2f}, ", "--calibrator"):
        assert text in line
    with pytest.raises(EngineError, match="computes wrongly, nothing was recorded; leave int8 out"):
        gate.check("tensorrt", "int8", run)


@pytest.mark.parametrize("key", ["fp32", "int8", "int8-implicit"])
@pytest.mark.parametrize(
    ("value", "words"), [(np.nan, "has NaN or Inf"), (np.inf, "has NaN or Inf"), (0, "is 0 every")]
)
def test_a_useless_map_stops_every_engine(key: str, value: float, words: str, subject: Any) -> None:
    raws = [raw.copy() for raw in subject.gate.raws["onnx-fp32"]]
    raws[1][:] = value
    stride = subject.source.info.head.strides[1]
    with pytest.raises(EngineError) as caught:
        subject.gate.check("tensorrt", key, lambda images: raws, own=key == "int8-implicit")
    assert f"tensorrt {key}: its map of stride {stride} {words}" in str(caught.value)
    assert "--precisions" in str(caught.value) and "\n" not in str(caught.value)


def test_the_gate_goes_by_the_onnx_of_the_same_precision(subject: Any) -> None:
    """An engine that computes the float network passes as fp32 at no distance at all."""
    raws = subject.gate.raws

    def far(key: str, like: str) -> float:
        own = key == "int8-implicit"
        found = subject.gate.check("x", key, lambda images: raws[like], own)
        return max(item.moved for item in found)

    assert far("fp32", "onnx-fp32") == far("int8", "onnx-int8") == 0
    assert far("int8-implicit", "onnx-fp32") == 0
    assert far("int8", "onnx-fp32") > 0


def test_without_an_onnx_nothing_is_held_against_it(subject: Any) -> None:
    gate = Gate(
        subject.source.info.head, subject.folder, {"onnx-fp32": "model-fp32.onnx"}, IMAGES, 1
    )
    assert gate.check("torch", "int8", lambda images: pytest.fail("ran")) == []
    assert gate.moved == gate.scores == 0


def run(tiny: TinySet, project: Path, *more: str) -> int:
    flags = ("--engine", "openvino", "--runs", "1", "--precisions", "fp32", "int8", *more)
    return main("engine", tiny.flags(project, *flags))


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> None:
    """The int8 engine of the stage gets boxes wrong and scores right."""
    real = building.build

    def wrapped(*args: Any) -> Any:
        predictors, files = real(*args)
        int8 = predictors["int8"]
        predictors["int8"] = Wrapped(int8)
        return predictors, files

    class Wrapped:
        def __init__(self, predictor: Any) -> None:
            self.predictor, self.model = predictor, predictor.model
            self.float_type = predictor.float_type

        def __call__(self, images: np.ndarray) -> list[np.ndarray]:
            raws = self.predictor(images)
            for level, raw in enumerate(raws):
                raw[:, self.model.head.box_channels(level)] = -5
            return raws

    monkeypatch.setattr(building, "build", wrapped)


@pytest.mark.usefixtures("plant")
def test_the_stage_stops_and_records_nothing(
    tiny: TinySet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tiny, tmp_path) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: openvino int8: its boxes are not those of model-int8.onnx")
    assert "computes wrongly" in error
    assert not (tmp_path / "run" / "engine-openvino.json").exists()
    assert run(tiny, tmp_path, "--gate", "0") == 0, "the user may insist"
    assert "warning: --gate 0" in capsys.readouterr().err


def test_the_stage_says_how_far_engines_are_off(
    tiny: TinySet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tiny, tmp_path, "--gate", "3") == 0
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("gate")]
    found = re.fullmatch(r"gate, .* on 3 images: fp32 (\d\.\d{3}), int8 (\d\.\d{3})", line)
    assert found, line
    gated = read_result(tmp_path / "run" / "engine-openvino.json").notes["gate"]
    worst = [max(level["moved"] for level in gated[key]) for key in ("fp32", "int8")]
    assert [float(value) for value in found.groups()] == pytest.approx(
        [1 - moved for moved in worst], abs=0.0005
    )


def test_no_boxes_at_all_is_said(
    tiny: TinySet, tmp_path: Path, capsys: pytest.CaptureFixture[str], subject: Any
) -> None:
    config = engine.EngineConfig(data=str(tiny.data), weights=str(tiny.weights))
    inputs = engine.open_inputs(replace(config, project=str(tmp_path), imgsz=SIZE))
    quiet = [np.full_like(raw, -9) for raw in subject.gate.raws["onnx-fp32"]]
    inputs = SimpleNamespace(
        images=inputs.images,
        imgsz=SIZE,
        model=subject.source.model,
        config=SimpleNamespace(folder=subject.folder),
    )

    class Silent(Gate):
        def check(self, *_: Any) -> Any:
            return differences(self.head, quiet, quiet)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("yoloq.stages.engine.gate.Gate", Silent)
        names = {"onnx-fp32": "model-fp32.onnx"}
        check_all(inputs, "x", {"fp32": lambda images: quiet}, names, 2, 1)  # type: ignore[arg-type]
    assert "no boxes on 2 val images" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("found", "interval", "warned"),
    [
        pytest.param(0.30, (-0.01, 0.01), False, id="the same"),
        pytest.param(0.282, (-0.01, 0.01), False, id="within a point of the interval"),
        pytest.param(0.279, (-0.01, 0.01), True, id="beyond"),
        pytest.param(0.321, (-0.01, 0.01), True, id="better than can be"),
        pytest.param(0.279, (-0.03, 0.01), False, id="a wider interval"),
    ],
)
def test_ap_that_chance_does_not_explain(
    found: float,
    interval: tuple[float, float],
    warned: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    row = Row("INT8 PTQ", "int8", "tensorrt", found, 0.5, delta_ci95=interval)
    warn_if_off([row, replace(row, precision="int8-implicit", map50_95=0.0)], {"int8": 0.30})
    error = capsys.readouterr().err
    assert ("warning: INT8 PTQ (tensorrt)" in error) is warned
    assert error.count("\n") == int(warned)
