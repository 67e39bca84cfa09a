"""Our own exports have no finding for the engine that they are made for; a wrong placement has."""

from typing import Any

import onnx
import pytest
from tiny_quant import ACTIVATIONS, NAMES, SIZE, tiny_quantized

from yoloq.engines.options import BuildOptions
from yoloq.engines.predictor import ModelInfo
from yoloq.engines.source import Source
from yoloq.engines.tensorrt.onnx import tensorrt_onnx
from yoloq.graph.export import export_float
from yoloq.graph.integer import lower_integer
from yoloq.graph.lint.table import lint
from yoloq.graph.lower import lower_minimal
from yoloq.models import FAMILIES
from yoloq.quant.quantized import QuantizedModel
from yoloq.quant.spec import QuantSpec

pytestmark = pytest.mark.usefixtures("one_thread")

MODELS = [(family, "conv") for family in FAMILIES] + [("yolov5", "focus")]
each_model = pytest.mark.parametrize(("family", "stem"), MODELS)
PACKAGE = ["yolov8n", "yolov9t", "yolov10n", "yolo11n", "yolo12n", "yolo26n"]
ASYMMETRIC = {"activation": QuantSpec(symmetric=False)}
CLOSED: dict[str, Any] = {"sharing": "concat", "residual": "input"}  # as TensorRT wants it


def exported(model: QuantizedModel) -> onnx.ModelProto:
    return export_float(model.model.net, SIZE)


def source_of(model: QuantizedModel, **options: Any) -> Source:
    info = ModelInfo(model.model.head, NAMES, SIZE)
    return Source(info, model.model, model, BuildOptions(**options))


@each_model
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "int8-implicit"])
@pytest.mark.parametrize("max_batch", [0, 4])
def test_tensorrt(family: str, stem: str, precision: str, max_batch: int) -> None:
    source = source_of(tiny_quantized(family, stem, **CLOSED), max_batch=max_batch)
    assert lint(tensorrt_onnx(source, precision), "tensorrt") == []


@each_model
@pytest.mark.parametrize(
    "placement",
    [
        pytest.param({"residual": "both"}, id="residual both"),
        pytest.param({"float_first": 0, "float_head": False}, id="everything"),
        pytest.param({"keep_float": ["model.4", "model.9"]}, id="blocks in float"),
        pytest.param({"keep_float": ["model.6.m.0.cv1", "model.17.cv2"]}, id="convs in float"),
    ],
)
def test_tensorrt_with_other_placements(family: str, stem: str, placement: dict[str, Any]) -> None:
    source = source_of(tiny_quantized(family, stem, **CLOSED | placement))
    assert lint(tensorrt_onnx(source, "int8"), "tensorrt") == []


@pytest.mark.parametrize("name", PACKAGE)
def test_the_package_s_other_models(name: str) -> None:
    source = source_of(tiny_quantized(name, **CLOSED))
    for precision in ("fp16", "int8"):
        assert lint(tensorrt_onnx(source, precision), "tensorrt") == []
    model = tiny_quantized(name)
    assert lint(lower_minimal(exported(model), model.model.net, True), "openvino") == []


@each_model
@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize(
    "placement", [pytest.param({}, id="symmetric"), pytest.param(ASYMMETRIC, id="asymmetric")]
)
def test_openvino(family: str, stem: str, unsigned: bool, placement: dict[str, Any]) -> None:
    model = tiny_quantized(family, stem, **placement)
    lowered = lower_minimal(exported(model), model.model.net, unsigned=unsigned)
    signed = {"signed-concat"} if not unsigned and not placement else set()
    assert {finding.rule for finding in lint(lowered, "openvino")} == signed


@each_model
@pytest.mark.parametrize(
    "placement", [pytest.param({}, id="symmetric"), pytest.param(ASYMMETRIC, id="asymmetric")]
)
def test_onnxruntime(family: str, stem: str, placement: dict[str, Any]) -> None:
    model = tiny_quantized(family, stem, **placement)
    lowered = lower_integer(exported(model), model.model.net, model.outputs)
    assert lint(lowered, "onnxruntime") == []


@pytest.mark.parametrize("activation", [*ACTIVATIONS, "mixed"])
def test_activations(activation: str) -> None:
    model = tiny_quantized(act=activation)
    assert lint(lower_minimal(exported(model), model.model.net, True), "openvino") == []
    lowered = lower_integer(exported(model), model.model.net, model.outputs)
    assert lint(lowered, "onnxruntime") == []
    closed = tiny_quantized(act=activation, **CLOSED)
    assert lint(tensorrt_onnx(source_of(closed), "int8"), "tensorrt") == []


def rules(model: onnx.ModelProto, target: str) -> set[tuple[str, str]]:
    return {(finding.level, finding.rule) for finding in lint(model, target)}


def test_one_engines_placement_is_named_for_another() -> None:
    model = tiny_quantized()
    minimal = lower_minimal(exported(model), model.model.net)
    integer = lower_integer(exported(model), model.model.net, model.outputs)
    assert rules(minimal, "tensorrt") == {
        ("warning", "float-residual"),
        ("warning", "unequal-scales"),
    }
    assert rules(minimal, "onnxruntime") == {("warning", "float-output")}
    assert {("error", "zero-point"), ("warning", "inside-silu")} <= rules(integer, "tensorrt")
    assert ("warning", "inside-silu") in rules(integer, "openvino")
