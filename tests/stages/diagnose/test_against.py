"""Outputs of convolutions inside each engine, against those of torch."""

import numpy as np
import pytest
import torch
from engine_source import HERE, IMAGES, source
from rounding import CHANCE, again
from tiny_quant import as_input

from yoloq.base.errors import EngineError, PolicyError
from yoloq.engines import get_engine
from yoloq.engines.source import Source
from yoloq.measure.compare import LayerError
from yoloq.models import FAMILIES
from yoloq.quant.policy import Policy, Rule
from yoloq.quant.spec import ACTIVATION, WEIGHT, QuantSpec
from yoloq.stages.diagnose.against import NamedEngine, compare_engines, open_engine, read_engine

pytestmark = pytest.mark.usefixtures("one_thread")

ONNX_BASED = [name for name in HERE if name != "torch"]
FIRST_C3 = ["model.2.cv1.conv", "model.2.m.0.cv1.conv", "model.2.m.0.cv2.conv"]
TORCH = {precision: NamedEngine("torch", precision) for precision in ("fp32", "int8")}


@pytest.fixture(scope="module", params=FAMILIES)
def family_source(request: pytest.FixtureRequest) -> Source:
    return source(request.param)


@pytest.fixture(scope="module")
def simulated(family_source: Source) -> dict[str, LayerError]:
    """What int8 costs at each layer, as torch simulates it."""
    return by_layer(compare_engines(family_source, TORCH["int8"], TORCH["fp32"], [IMAGES]))


def by_layer(errors: list[LayerError]) -> dict[str, LayerError]:
    return {error.layer: error for error in errors}


@pytest.mark.parametrize("name", HERE)
def test_fp32_agrees_with_torch_at_every_layer(name: str, family_source: Source) -> None:
    errors = compare_engines(family_source, NamedEngine(name, "fp32"), TORCH["fp32"], [IMAGES])
    layers = [error.layer for error in errors]
    assert set(layers) == set(family_source.quantized.placement.layers)
    assert layers[:5] == ["model.0.conv", "model.1.conv", *FIRST_C3], "forward order"
    assert min(error.snr for error in errors) > 60
    assert not any(error.bad for error in errors)


@pytest.mark.parametrize("name", HERE)
def test_16_bit_agrees_with_torch_at_every_layer(name: str, family_source: Source) -> None:
    for precision in {"bf16", "fp16"} & set(get_engine(name).precisions("cpu")):
        errors = compare_engines(
            family_source, NamedEngine(name, precision), TORCH["fp32"], [IMAGES]
        )
        assert 25 < min(error.snr for error in errors) < 90, "and is not FP32"


@pytest.mark.parametrize("name", ONNX_BASED)
def test_int8_loses_no_more_than_simulated(
    name: str, family_source: Source, simulated: dict[str, LayerError]
) -> None:
    errors = compare_engines(family_source, NamedEngine(name, "int8"), TORCH["fp32"], [IMAGES])
    first = ("model.0.conv", "model.1.conv")
    assert min(error.snr for error in errors if error.layer in first) > 40, "16 bits at the least"
    apart = [error.snr - simulated[error.layer].snr for error in errors if error.layer not in first]
    assert np.mean(apart) > -again(name) - CHANCE
    assert min(apart) > -again(name) - 3 * CHANCE, "of sixty layers the least lucky one"


@pytest.mark.parametrize("layer", ["model.4.cv1.conv", "model.17.m.0.cv2.conv"])
def test_error_begins_at_the_only_layer_in_int8(layer: str) -> None:
    pytest.importorskip("onnxruntime")  # its float layers are FP32 on every machine
    one = source("yolov5", policy=Policy((Rule(layer, WEIGHT, ACTIVATION),)))
    found, wanted = (
        by_layer(compare_engines(one, NamedEngine(name, "int8"), TORCH["fp32"], [IMAGES]))
        for name in ("onnxruntime", "torch")
    )
    names = list(found)
    assert min(found[name].snr for name in names[: names.index(layer)]) > 100
    assert wanted[layer].snr - 6 < found[layer].snr < 45, "its output is rounded as well"


@pytest.mark.parametrize("name", HERE)
def test_intermediates_have_the_shapes_and_values_of_the_module(
    name: str, family_source: Source
) -> None:
    layers = ["model.0.conv", "model.9.cv2.conv"]
    net = family_source.model.net
    wanted = {}
    for layer in layers:
        handle = net.get_submodule(layer).register_forward_hook(
            lambda _, args, y, layer=layer: wanted.update({layer: y.clone()})
        )
        with torch.inference_mode():
            net(as_input(IMAGES[1:2]))
        handle.remove()
    watch = open_engine(family_source, NamedEngine(name, "fp32"), layers, 1)
    first = watch(IMAGES[1:2])
    kept = {layer: first[layer].copy() for layer in layers}
    watch(IMAGES[:1])
    assert list(first) == layers
    for layer in layers:
        assert first[layer].dtype == np.float32
        np.testing.assert_array_equal(first[layer], kept[layer], "outlives the next call")
        np.testing.assert_allclose(first[layer], wanted[layer], rtol=1e-4, atol=1e-6)


def test_onnxruntime_keeps_its_integer_convolutions(tmp_path, monkeypatch) -> None:
    onnx, engine = pytest.importorskip("onnx"), pytest.importorskip("yoloq.engines.onnxruntime")
    opened, file = engine._open, tmp_path / "fused.onnx"

    def spy(model, threads):
        return opened(model, threads, optimized_model_filepath=str(file))

    monkeypatch.setattr(engine, "_open", spy)
    chosen = source("yolov5")
    layers = [name for name, plan in chosen.quantized.placement.layers.items() if plan.quantized]
    engine.intermediates(chosen, "int8", layers, 1)
    fused = [node.op_type for node in onnx.load(file).graph.node]
    assert fused.count("QLinearConv") == len(layers)


def test_patterns_choose_layers_in_forward_order() -> None:
    layers = ["model.9", "model.2.cv?.conv"]
    errors = compare_engines(source("yolov5"), TORCH["int8"], TORCH["fp32"], [IMAGES], layers)
    assert [error.layer for error in errors] == [
        *(f"model.2.cv{i}.conv" for i in (1, 2, 3)),
        *(f"model.9.cv{i}.conv" for i in (1, 2)),
    ]


def test_batches_add_up(family_source: Source) -> None:
    compared = [
        compare_engines(family_source, TORCH["int8"], TORCH["fp32"], batches, ["model.5"])
        for batches in ([IMAGES], [IMAGES[:1], IMAGES[1:]])
    ]
    assert compared[0] == compared[1]


def test_unknown_layer_lists_near_names() -> None:
    with pytest.raises(PolicyError, match=r"'model\.99' matches no convolution; near names: mod"):
        compare_engines(source("yolov5"), *TORCH.values(), [IMAGES], ["model.2", "model.99"])


def test_no_images() -> None:
    with pytest.raises(ValueError, match="no image"):
        compare_engines(source("yolov5"), *TORCH.values(), [], ["model.2"])


def test_policy_that_is_only_simulated() -> None:
    rules = (Rule("*", WEIGHT, ACTIVATION), Rule("model.3", WEIGHT, QuantSpec(bits=4)))
    few = source("yolov5", policy=Policy(rules))
    for name in ONNX_BASED:
        with pytest.raises(PolicyError, match="4 bits"):
            compare_engines(few, NamedEngine(name, "int8"), TORCH["fp32"], [IMAGES])


@pytest.mark.parametrize("name", HERE)
def test_variants_are_read(name: str) -> None:
    assert read_engine(name) == NamedEngine(name, "int8")
    for precision in get_engine(name).precisions("cpu"):
        variant = NamedEngine(name, precision)
        assert read_engine(str(variant)) == variant


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("torch-int3", r"torch-int3: not one of torch-fp32, .*torch-int8"),
        ("tflite-int8", r"tflite: not one of auto, openvino"),
    ],
)
def test_unknown_variants_list_the_known_ones(text: str, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        read_engine(text)
