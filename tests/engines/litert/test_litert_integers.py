"""What a .tflite file holds of a calibrated network: integers, their scales, what reads them."""

from pathlib import Path

import pytest
import torch
from engine_source import source
from engine_wheels import need
from onnx_graphs import run
from rounding import CHANCE, MANY, again
from shallow_net import ALL, POLICIES, outputs, shallow
from tflite_reader import operators
from tiny_quant import ACTIVATIONS, as_input, pictures, signal_to_noise, tiny_model, tiny_quantized

from yoloq.base.errors import EngineError
from yoloq.engines import get_engine
from yoloq.engines.litert import converted, lower
from yoloq.engines.litert.conversion import to_tflite
from yoloq.engines.litert.interpreter import LiteRTPredictor
from yoloq.engines.predictor import METADATA, ModelInfo
from yoloq.engines.source import Source
from yoloq.graph.export import export_float
from yoloq.graph.integer import lower_integer
from yoloq.quant.policy import Policy

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.usefixtures("_litert")]


@pytest.fixture(scope="module", autouse=True)
def _litert() -> None:
    need("litert")


def content(policy: Policy, bits: int = 8, activation: str = "SiLU") -> bytes:
    net, ranges = shallow(policy, activation=activation)
    info = ModelInfo(source("yolov5").info.head, ("a",), 64)
    lowered = lower_integer(export_float(net, 64), net, ranges)
    return to_tflite(lowered, {METADATA: info.to_json()}, bits)


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_it_computes_what_the_integer_graph_says(policy: Policy) -> None:
    net, ranges = shallow(policy)
    wanted = run(lower_integer(export_float(net, 64), net, ranges), MANY)
    found = LiteRTPredictor(content(policy), 1)(MANY)
    exact = outputs(shallow(None)[0])
    loss = signal_to_noise(exact, wanted)
    assert signal_to_noise(exact, found) >= min(loss, 30) - 2
    assert signal_to_noise(wanted, found) >= min(loss, 30) - 3


@pytest.mark.parametrize("activation", [name for name in ACTIVATIONS if name != "GELU"])
def test_behind_every_activation(activation: str) -> None:
    policy = Policy((ALL,))
    exact = outputs(shallow(None, activation=activation)[0])
    loss = signal_to_noise(exact, outputs(shallow(policy, activation=activation)[0]))
    found = LiteRTPredictor(content(policy, activation=activation), 1)(MANY)
    assert signal_to_noise(exact, found) >= min(loss, 30) - 3


def test_a_network_with_attention_whose_shapes_are_computed() -> None:
    model, quantized = tiny_model("yolo11n"), tiny_quantized("yolo11n")
    made = Source(ModelInfo(model.head, model.names, 64), model, quantized)
    images = pictures(4, seed=7)
    with torch.inference_mode():
        exact = [raw.numpy() for raw in model.net(as_input(images))]
        simulated = [raw.numpy() for raw in quantized.model.net(as_input(images))]
    contents = {p: converted(made, p, lower(made, p)) for p in ("fp32", "int8")}
    found = {p: LiteRTPredictor(each, 1)(images) for p, each in contents.items()}
    assert signal_to_noise(exact, found["fp32"]) > 100
    loss = signal_to_noise(exact, simulated)
    assert signal_to_noise(exact, found["int8"]) > loss - again("litert") - CHANCE


def test_everything_is_held_in_integers_between_the_image_and_the_head() -> None:
    written = operators(content(Policy((ALL,))))
    names = [each.name for each in written]
    assert names[0] == "QUANTIZE" and written[0].read[0] == ("UINT8", [1.0], 0)
    assert names[-1] == "DEQUANTIZE"
    assert names.count("CONV_2D") == 9
    assert {each.result[0] for each in written[:-1]} == {"INT8"}
    assert names.count("DEQUANTIZE") == 1


def test_scales_are_those_of_the_calibrated_network() -> None:
    net, _ = shallow(Policy((ALL,)))
    written = operators(content(Policy((ALL,))))
    convolutions = [each for each in written if each.name == "CONV_2D"]
    modules = [
        "stem.conv",
        *(f"c3.{name}.conv" for name in ("cv1", "cv2", "m.0.cv1", "m.0.cv2", "cv3")),
    ]
    for module, each in zip(modules, convolutions, strict=False):
        conv = net.get_submodule(module)
        scale = float(conv.input_quantizer.amax) / 127
        weights = conv.weight_quantizer.amax.numpy() / 127
        if module == "stem.conv":
            scale, weights = scale * 255, weights / 255
        image, kernel, bias = each.read
        assert image[:2] == ("INT8", [pytest.approx(scale)])
        assert image[2] == 0
        assert kernel[0] == "INT8" and kernel[1] == pytest.approx(weights.tolist())
        assert bias[0] == "INT32"
        assert bias[1] == pytest.approx((weights * scale).tolist(), rel=1e-5)


def test_a_sigmoid_writes_the_only_steps_that_it_can() -> None:
    written = operators(content(Policy((ALL,))))
    sigmoids = [each.result for each in written if each.name == "LOGISTIC"]
    assert sigmoids == [("INT8", [1 / 256], -128)] * 8


def test_16_bits_keep_the_ranges() -> None:
    few, many = (operators(content(Policy((ALL,)), bits)) for bits in (8, 16))
    convolutions = [[each for each in all_ if each.name == "CONV_2D"] for all_ in (few, many)]
    for eight, sixteen in zip(*convolutions, strict=True):
        assert sixteen.read[0][0] == sixteen.result[0] == "INT16"
        assert sixteen.read[0][2] == sixteen.result[2] == 0, "the kernels know no zero-point"
        assert sixteen.read[0][1] == pytest.approx([eight.read[0][1][0] * 127 / 32767])
        assert sixteen.read[1] == eight.read[1], "weights are the same"
        assert sixteen.read[2][0] == "INT64"


def test_16_bits_lose_only_what_weights_lose() -> None:
    net, _ = shallow(POLICIES["weights alone"])
    images = pictures(4)  # that the ranges are of
    wanted = [net(as_input(images))[0].detach().numpy()]
    few, many = (LiteRTPredictor(content(Policy((ALL,)), bits), 1)(images) for bits in (8, 16))
    assert signal_to_noise(wanted, many) > 40 > signal_to_noise(wanted, few) + 6


@pytest.mark.parametrize("cut", [None, 100], ids=["of another tool", "damaged"])
def test_a_file_that_yoloq_did_not_write_is_refused(cut: int | None, tmp_path: Path) -> None:
    net, _ = shallow(None)
    file = tmp_path / "other.tflite"
    file.write_bytes(to_tflite(export_float(net, 64).model, {})[:cut])
    with pytest.raises(EngineError, match=r"other.tflite: is no .tflite file of yoloq") as caught:
        get_engine("litert").load(file, "int8", "cpu", 1)
    assert "\n" not in str(caught.value)
