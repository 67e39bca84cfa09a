"""Own exports in TensorRT's real parser and builder (of TensorRT for RTX): no GPU is needed."""

import random
from pathlib import Path

import numpy as np
import onnx
import pytest
from lint_dead import cast_weight
from lint_draws import (
    Draw,
    batch_norm,
    blocks_of_a_weight,
    conv_reading,
    conv_with,
    drawn,
    dynamic,
    integer_bias,
    pool_of_integers,
    quantized_output,
    uint8_images,
    weight_zeros_of_another_length,
)
from tiny_quant import tiny_quantized
from trt_rtx import RtxLayer, built, library, parsed
from trt_source import source

from yoloq.engines.source import Source
from yoloq.engines.tensorrt import onnx_parser
from yoloq.engines.tensorrt.library import Library
from yoloq.engines.tensorrt.onnx import tensorrt_onnx
from yoloq.graph.lint.table import lint
from yoloq.graph.names import convolution_of
from yoloq.models import FAMILIES
from yoloq.stages.lint_onnx import LintConfig
from yoloq.stages.lint_onnx import stage as lint_onnx

pytestmark = pytest.mark.usefixtures("one_thread")

MATRIX = ("correlation", "runtime_fusion")  # a convolution, alone or with its activation
# kernels of the small yolov5: the same for every placement, which is written down so that a change
# is seen. In FP16 SiLU is a part of the convolution; an int8 one writes floats, which one kernel
# more scales, activates and rounds for the next. It writes FP32, unless its weight has one scale in
# all: `channel_scale.py`.
FP16, INT8 = 73, 119
PACKAGE = ["yolov8n", "yolov9t", "yolov10n", "yolo11n", "yolo12n", "yolo26n"]
DYNAMIC = {"static": {}, "dynamic": {"batch": 2, "max_batch": 4}}


def convolutions(layers: list[RtxLayer], made: Source) -> dict[str, RtxLayer]:
    """Kernels by the convolution that they compute."""
    names = made.quantized.placement.layers
    found = {}
    for layer in layers:
        own = [node for node in layer.nodes if node.rpartition("/")[2] == "Conv"]
        if layer.kind in MATRIX:
            found |= {name: layer for node in own if (name := convolution_of(node, names))}
    return found


@pytest.mark.parametrize("shape", DYNAMIC)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("family", FAMILIES)
def test_own_exports_are_parsed_and_built(family: str, precision: str, shape: str) -> None:
    library()
    made = source(family, **DYNAMIC[shape])
    kernels = convolutions(built(tensorrt_onnx(made, precision)), made)
    plans = made.quantized.placement.layers
    assert kernels.keys() == plans.keys()
    for name, layer in kernels.items():
        planned = precision == "int8" and plans[name].quantized
        assert (layer.inputs[0] == "Int8") == planned, name


@pytest.mark.parametrize("family", FAMILIES)
def test_the_graph_for_a_dla_is_parsed_and_built(family: str) -> None:
    library()
    made = source(family, dla=0)
    kernels = convolutions(built(tensorrt_onnx(made, "int8")), made)
    for name, layer in kernels.items():
        assert (layer.inputs[0] == "Int8") == made.quantized.placement.layers[name].quantized


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("name", PACKAGE)
def test_the_package_s_other_models_are_parsed(name: str, precision: str) -> None:
    library()
    assert parsed(tensorrt_onnx(source(name), precision)).num_outputs == 3


@pytest.mark.parametrize("name", ["yolov10n", "yolo12n", "yolo26n"])
def test_attention_on_any_number_of_images_is_built(name: str) -> None:
    """Whose shapes have a -1 in the place of the number of images."""
    library()
    made = source(name, batch=2, max_batch=4)
    assert convolutions(built(tensorrt_onnx(made, "int8")), made)


@pytest.mark.parametrize("sharing", ["siblings", "concat"])
@pytest.mark.parametrize("residual", ["none", "input", "both"])
def test_what_follows_an_int8_convolution_is_one_kernel(sharing: str, residual: str) -> None:
    """Scaling, SiLU, the residual addition, Concat and the next rounding: none stands alone."""
    library()
    usual = source("yolov5")
    quantized = tiny_quantized("yolov5", sharing=sharing, residual=residual)
    layers = built(tensorrt_onnx(Source(usual.info, usual.model, quantized), "int8"))
    assert len(layers) == INT8
    assert {layer.kind for layer in layers} == {*MATRIX, "kgen", "maxpool"}
    written = {layer.outputs for layer in layers if layer.kind == "correlation"}
    assert written == {("Float",), ("Half",)}
    pointwise = [layer.nodes for layer in layers if layer.kind == "kgen"]
    for operator in ("Add", "Concat"):
        holders = [nodes for nodes in pointwise if any(n.endswith(operator) for n in nodes)]
        assert holders
        for nodes in holders:
            assert any(n.endswith(("/act/Mul", "_Q", "_DQ", "/Resize")) for n in nodes), nodes


def test_fp16_has_fewer_kernels_than_int8() -> None:
    library()
    layers = built(tensorrt_onnx(source("yolov5"), "fp16"))
    assert len(layers) == FP16
    assert sum(layer.kind == "runtime_fusion" for layer in layers) == 57


def test_the_parser_refuses_by_node(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    library()
    made = source("yolov5")
    model = tensorrt_onnx(made, "fp32")
    model.graph.node[3].op_type, model.graph.node[3].domain = "Unheard", "someone"
    name = model.graph.node[3].name
    file = tmp_path / "model.onnx"
    onnx.save(model, file)
    [found] = onnx_parser.refusals(file)
    assert (found.level, found.rule, found.nodes) == ("error", "parser", (name,))
    assert found.message.startswith("Unheard: ")
    assert lint_onnx.run(LintConfig(onnx=str(file))).exit_code == 1
    printed = capsys.readouterr().out
    assert "it refuses 1 node\n" in printed and f"parser: Unheard: {found.message[9:20]}" in printed
    onnx.save(tensorrt_onnx(made, "int8"), file)
    assert lint_onnx.run(LintConfig(onnx=str(file), parse="on")).exit_code == 0
    assert "it reads the file" in capsys.readouterr().out


U8 = {"zero": 128, "dtype": np.uint8}
DRAWN = {  # what a graph does wrong, whether the parser refuses it, the rule that foresees it
    "uint8 with a shift": (conv_reading(**U8), True, "zero-point"),
    "uint8 without": (conv_reading(dtype=np.uint8), False, "zero-point"),
    "no zero-point": (conv_reading(zero=None), False, "zero-point"),
    "a weight's shift": (conv_with(zero=[0, 0, 0, 1]), True, "zero-point"),
    "other zero-points": (weight_zeros_of_another_length, True, "zero-point"),
    "a scale of 0": (conv_reading(scale=0.0), True, "scale-value"),
    "a dead channel": (conv_with(scale=[1, 1, 0, 1]), True, "scale-value"),
    "short": (conv_with(scale=np.full(2, 0.01)), True, "scale-length"),
    "blocks": (blocks_of_a_weight, True, "block-axis"),
    "int32 bias": (integer_bias, True, "int32-bias"),
    "bytes moved": (uint8_images("Transpose"), True, "image-cast"),
    "dynamic": (dynamic(0.1), True, "integer-operator"),
    "input channels": (conv_with(axis=1), False, "scale-axis"),
    "scales by channel": (conv_reading(scale=np.ones(4)), False, "activation-scale"),
    "batch norm": (batch_norm, False, "batch-norm"),
    "integers out": (quantized_output, False, "quantized-output"),
    "pool of integers": (pool_of_integers, False, "dangling"),
}


@pytest.mark.parametrize(("draw", "refused", "rule"), DRAWN.values(), ids=DRAWN)
def test_the_rules_foresee_what_the_parser_refuses(
    draw: Draw, refused: bool, rule: str, tmp_path: Path
) -> None:
    library()
    model, file = drawn(draw), tmp_path / "model.onnx"
    onnx.save(model, file)
    assert bool(onnx_parser.refusals(file)) == refused
    levels = {finding.level for finding in lint(model, "tensorrt") if finding.rule == rule}
    assert levels and (levels == {"error"} or not refused)
    read_otherwise = rule == "zero-point"  # uint8 by ONNX, int8 by TensorRT
    assert ("error" in levels) == (refused or read_otherwise)


def test_what_the_builder_refuses_is_foreseen_too() -> None:
    library()
    model = drawn(cast_weight(0.1))
    assert parsed(model)
    with pytest.raises(AssertionError, match="Quantized constant"):
        built(model)
    assert {f.rule for f in lint(model, "tensorrt") if f.level == "error"} == {"bare-integers"}


def test_damaged_files_are_refused_in_words(tmp_path: Path) -> None:
    """Names that are no text among them."""
    library()
    chance = random.Random(0)
    whole = tensorrt_onnx(source("yolov5"), "int8").SerializeToString()
    file, refused = tmp_path / "model.onnx", 0
    for _ in range(40):
        content = bytearray(whole)
        for _ in range(20):
            content[chance.randrange(len(content))] = chance.randrange(256)
        file.write_bytes(content)
        found = onnx_parser.refusals(file)
        refused += bool(found)
        assert all(lint_onnx.describe(finding).isprintable() for finding in found)
    assert refused > 10


@pytest.mark.parametrize(
    ("parse", "target", "asked"),
    [
        ("auto", "tensorrt", True),
        ("on", "tensorrt", True),
        ("off", "tensorrt", False),
        ("auto", "openvino", False),
    ],
)
def test_when_it_is_asked(parse: str, target: str, asked: bool, monkeypatch) -> None:
    monkeypatch.setattr(Library, "is_installed", lambda library: True)
    assert lint_onnx.wants_parser(LintConfig(onnx="x", parse=parse, target=target)) == asked
    monkeypatch.setattr(Library, "is_installed", lambda library: False)
    wanted = asked and parse == "on"
    assert lint_onnx.wants_parser(LintConfig(onnx="x", parse=parse, target=target)) == wanted
