"""What TensorRT says of an engine's layers, in the form of 10.x and of 11.x."""

from collections.abc import Callable

import pytest
from inspector_samples import LAYERS, STEM, names_only, version_10, version_11

from yoloq.base.errors import EngineError
from yoloq.engines.tensorrt.inspector import LayerInfo, layer_report, named, read_layers
from yoloq.engines.tensorrt.profile import node_time

CV1, CV2, INNER = "model.2.cv1.conv", "model.2.cv2.conv", "model.2.m.0.cv2.conv"
CONVOLUTIONS = ("model.0.conv", CV1, CV2, INNER)

both = pytest.mark.parametrize("sample", [version_10, version_11])


@both
def test_both_forms_give_the_same_layers(sample: Callable[[], str]) -> None:
    layers = read_layers(sample())
    assert [layer.name for layer in layers] == [item[0] for item in LAYERS]
    assert [layer.inputs for layer in layers] == [
        ("uint8",),
        ("fp32",),
        ("fp16",),
        ("int8",),
        ("fp16", "int64", "fp16"),
        (),
    ]
    assert [layer.outputs for layer in layers] == [
        ("fp32",),
        ("fp16",),
        ("int8",),
        ("int8",),
        ("fp16",),
        (),
    ]
    assert layers[3].tactic.startswith("sm80_xmma")


@both
def test_the_nodes_of_a_layer_come_from_its_metadata_or_its_name(sample: Callable[[], str]) -> None:
    layers = read_layers(sample())
    stem = ("/net/model.0/conv/Conv", "/net/model.0/act/Sigmoid", "/net/model.0/act/Mul")
    assert layers[0].nodes == stem, "a reformat has those of the layer that it serves"
    assert layers[1].nodes == stem
    assert layers[3].nodes == ("/net/model.2/cv1/conv/Conv", "/net/model.2/cv2/conv/Conv")


def test_control_characters_need_not_be_escaped() -> None:
    raw = version_10().replace("\\u001f", "\x1f")
    assert raw != version_10()
    assert read_layers(raw) == read_layers(version_10())


def test_layers_of_which_only_the_name_is_told() -> None:
    layers = read_layers(names_only())
    assert layers[1].name == STEM
    assert layers[1].nodes[0] == "/net/model.0/conv/Conv"
    assert layers[1].precision == "unknown"


@both
def test_report(sample: Callable[[], str]) -> None:
    report = layer_report(read_layers(sample()), CONVOLUTIONS, int8=(CV1, CV2, INNER))
    assert report.precisions == {"tf32": 1, "int8": 1, "fp16": 1}
    assert report.reformats == 2
    assert report.convolutions == {"model.0.conv": "tf32", CV1: "int8", CV2: "int8", INNER: "fp16"}
    assert report.not_int8 == (INNER,)
    assert report.summary() == "1 tf32, 1 int8, 1 fp16 layers, 2 reformats"


@both
def test_what_the_policy_keeps_in_float_is_no_fault(sample: Callable[[], str]) -> None:
    report = layer_report(read_layers(sample()), CONVOLUTIONS, int8=(CV1, CV2))
    assert report.not_int8 == ()


def test_the_json_has_every_layer_and_its_precision() -> None:
    layers = read_layers(version_11())
    data = layer_report(layers, CONVOLUTIONS, int8=(INNER,)).to_json(layers)
    assert [item["precision"] for item in data["layers"]][1:5] == ["tf32", "fp16", "int8", "fp16"]
    assert data["not_int8"] == (INNER,) and data["reformats"] == 2


@pytest.mark.parametrize(
    ("kind", "nodes", "found"),
    [
        pytest.param("CaskConvolution", (), True, id="a convolution's kernel"),
        pytest.param("CaskGemmConvolution", (), True, id="as a matrix product"),
        pytest.param("kgen", ("/net/model.1/conv/Conv", "/net/x/Add"), True, id="generated"),
        pytest.param("kgen", ("/net/model.1/conv/Conv_1",), True, id="the exporter's second"),
        pytest.param("kgen", ("/net/model.1/act/Mul",), False, id="an activation"),
        pytest.param("Reformat", ("/net/model.1/conv/Conv",), False, id="a reformat for one"),
        pytest.param("Constant", ("/net/model.1/conv/Conv",), False, id="its weight"),
        pytest.param("PointWiseV2", ("/net/Convert",), False, id="a name that begins alike"),
    ],
)
def test_what_counts_as_a_convolution(kind: str, nodes: tuple[str, ...], found: bool) -> None:
    assert LayerInfo("x", kind, nodes=nodes).is_convolution is found


@pytest.mark.parametrize(
    ("inputs", "outputs", "tactic", "precision"),
    [
        pytest.param(("int8",), ("fp16",), "", "int8", id="int8 in"),
        pytest.param(("fp16",), ("int8",), "", "fp16", id="int8 out alone"),
        pytest.param(("int64", "fp16"), ("fp16",), "", "fp16", id="a shape first"),
        pytest.param(("fp32",), ("fp32",), "gemm_f32f32_f32", "fp32", id="fp32"),
        pytest.param(("fp32",), ("fp32",), "sm80_TF32TF32_f32", "tf32", id="tf32"),
        pytest.param(("uint8",), ("fp16",), "", "fp16", id="an image in"),
        pytest.param((), (), "", "unknown", id="nothing told"),
    ],
)
def test_precision(
    inputs: tuple[str, ...], outputs: tuple[str, ...], tactic: str, precision: str
) -> None:
    assert LayerInfo("x", "k", inputs, outputs, (), tactic).precision == precision


@pytest.mark.parametrize(
    "text",
    ["", "no JSON", "[]", "{}", '{"Layers": [{"LayerType": "x"}]}', '{"Layers": 3}', "[" * 100_000],
    ids=["empty", "text", "list", "no layers", "no name", "a number", "deep"],
)
def test_information_in_no_known_form(text: str) -> None:
    with pytest.raises(EngineError, match="cannot be read") as caught:
        read_layers(text)
    assert "\n" not in str(caught.value)


def test_a_layer_by_its_name_alone_is_still_a_convolution() -> None:
    node = node_time(named(STEM), 0.5)
    assert (node.kind, node.precision) == ("Convolution", "unknown")
    assert node.sources[0] == "/net/model.0/conv/Conv"


def test_a_layer_in_the_common_profile() -> None:
    layers = read_layers(version_10())
    conv, quantize, gap = (node_time(layers[i], 0.5) for i in (4, 2, 5))
    assert (conv.kind, conv.precision, conv.ms) == ("Convolution", "fp16", 0.5)
    assert conv.sources == ("/net/model.2/m/m.0/cv2/conv/Conv", "/net/model.2/m/m.0/Add")
    assert quantize.kind == "Reformat" and quantize.sources == ("/net/model.0/act/Mul_output_0_Q",)
    assert gap.sources == ("signal_1",)
