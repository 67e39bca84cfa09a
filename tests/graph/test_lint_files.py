"""The linter on one graph written in many ways, on damaged ones, and from the command line."""

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from lint_draws import (
    U8,
    Draw,
    block,
    bottleneck,
    concat,
    conv_reading,
    conv_with,
    drawn,
    float_weight_between_qdq,
    found,
    readers,
    silu_with,
)
from lint_graphs import FLOAT, Net
from onnx import helper

from yoloq.__main__ import main
from yoloq.base.own_files import ROOT
from yoloq.engines.tensorrt.library import Library
from yoloq.graph.lint import TARGETS
from yoloq.graph.lint.table import lint

TENSORRT = TARGETS[0]


@pytest.fixture(autouse=True)
def _rules_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is installed here: what TensorRT's own parser says has its own tests."""
    monkeypatch.setattr(Library, "is_installed", lambda library: False)


def unchanged(model: onnx.ModelProto) -> onnx.ModelProto:
    return model


def as_constants(model: onnx.ModelProto) -> onnx.ModelProto:
    """Initializers as Constant nodes."""
    nodes = [
        helper.make_node("Constant", [], [tensor.name], value=tensor)
        for tensor in model.graph.initializer
    ]
    nodes += list(model.graph.node)
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def behind_identities(model: onnx.ModelProto) -> onnx.ModelProto:
    """Every input of every node through an Identity."""
    nodes = []
    for i, node in enumerate(list(model.graph.node)):
        for j, tensor in enumerate(node.input):
            if tensor:
                nodes.append(helper.make_node("Identity", [tensor], [f"same_{i}_{j}"]))
                node.input[j] = f"same_{i}_{j}"
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def in_a_function(model: onnx.ModelProto) -> onnx.ModelProto:
    """The whole graph as one local function."""
    graph, opsets = model.graph, list(model.opset_import)
    named = [i.name for i in graph.initializer]
    outputs = [output.name for output in graph.output]
    nodes = list(graph.node)
    function = helper.make_function("local", "Net", ["x", *named], outputs, nodes, opsets)
    call = helper.make_node("Net", ["x", *named], outputs, "net", domain="local")
    del graph.node[:]
    graph.node.append(call)
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("local", 1))
    return model


def in_microsofts_domain(model: onnx.ModelProto) -> onnx.ModelProto:
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            node.domain = "com.microsoft"
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model


def without_names(model: onnx.ModelProto) -> onnx.ModelProto:
    for node in model.graph.node:
        node.name = ""
    model.graph.name = ""
    return model


def plugin(n: Net) -> onnx.ModelProto:
    return n.model(n.add("EfficientNMS_TRT", n.conv(n.pair("x", np.nan))))


@pytest.mark.parametrize(
    "change",
    [
        unchanged,
        as_constants,
        behind_identities,
        in_a_function,
        in_microsofts_domain,
        without_names,
    ],
)
@pytest.mark.parametrize(
    ("draw", "rules"),
    [
        pytest.param(block, set(), id="none"),
        pytest.param(float_weight_between_qdq, set(), id="none, float weight"),
        pytest.param(conv_reading(**U8), {"zero-point"}, id="zero-point"),
        pytest.param(conv_with(scale=np.ones(3)), {"scale-length"}, id="length"),
        pytest.param(plugin, {"scale-value"}, id="plugin"),
        pytest.param(silu_with("gate"), {"inside-silu"}, id="silu"),
        pytest.param(bottleneck(), {"float-residual"}, id="residual"),
        pytest.param(concat(0.1, 0.2, 0.2), {"unequal-scales"}, id="concat"),
        pytest.param(readers(0.1, 0.2), {"sibling-scales"}, id="siblings"),
    ],
)
def test_one_graph_written_in_other_ways(
    change: Callable[[onnx.ModelProto], onnx.ModelProto], draw: Draw, rules: set[str]
) -> None:
    model = change(drawn(draw))
    before = model.SerializeToString()
    found = {finding.rule for finding in lint(model, TENSORRT)}
    assert found - {"bare-integers"} == rules  # which integers behind an Identity are, to TensorRT
    assert model.SerializeToString() == before


def test_a_subgraph_reads_what_stands_around_it() -> None:
    def draw(n: Net) -> onnx.ModelProto:
        y = n.dq(n.q("x"))
        value = helper.make_tensor_value_info("kept", FLOAT, None)
        node = helper.make_node("Identity", [y], ["kept"])
        branch = helper.make_graph([node], "branch", [], [value])
        condition = n.constant(True, np.bool_)
        return n.model(n.add("If", condition, then_branch=branch, else_branch=branch))

    assert found(draw, TENSORRT) == []


def save_apart(draw: Draw, folder: Path) -> Path:
    """A file whose every initializer lies beside it."""
    file = folder / "model.onnx"
    onnx.save(
        drawn(draw), file, save_as_external_data=True, size_threshold=0, location="beside.bin"
    )
    return file


def test_external_weights_need_not_be_loaded(tmp_path: Path) -> None:
    file = save_apart(conv_reading(scale=0.0), tmp_path)
    assert lint(onnx.load(file, load_external_data=False), TENSORRT) == []  # not judged
    assert {f.rule for f in lint(onnx.load(file), TENSORRT)} == {"scale-value"}


def linted(file: Path | str, *more: str) -> int:
    return main("lint_onnx", ["--onnx", str(file), *more])


def saved(draw: Draw, folder: Path) -> Path:
    file = folder / "model.onnx"
    onnx.save(drawn(draw), file)
    return file


@pytest.mark.parametrize(
    ("draw", "target", "code", "lines"),
    [
        pytest.param(block, "tensorrt", 0, ["0 errors, 0 warnings"], id="clean"),
        pytest.param(
            conv_reading(zero=1),
            "tensorrt",
            1,
            [
                "error    zero-point: zero-point is not 0 [QuantizeLinear_0, DequantizeLinear_1]; "
                "fix: quantize symmetrically to int8 and write zero-points of 0",
                "1 error, 0 warnings",
            ],
            id="error",
        ),
        pytest.param(
            lambda n: n.model(*(n.conv("x") for _ in range(5))),
            "openvino",
            0,
            [
                "warning  half-quantized: weight is quantized, input is float "
                "[Conv_1, Conv_3, Conv_5 and 2 more: --all]; fix: quantize input and weight, "
                "or neither",
                "0 errors, 1 warning",
            ],
            id="warning",
        ),
    ],
)
def test_command(
    draw: Draw,
    target: str,
    code: int,
    lines: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = saved(draw, tmp_path)
    assert linted(file, "--target", target) == code
    *findings, last = lines
    assert capsys.readouterr().out.splitlines() == [*findings, f"{file} for {target}: {last}"]


def test_all_nodes_are_named_on_demand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = saved(lambda n: n.model(*(n.conv("x") for _ in range(5))), tmp_path)
    assert linted(file, "--target", "openvino", "--all") == 0
    assert "[Conv_1, Conv_3, Conv_5, Conv_7, Conv_9]" in capsys.readouterr().out


def test_the_exit_codes_of_the_script(tmp_path: Path) -> None:
    """1 for findings and 2 for bad input, which `make` answers alike."""
    files = {
        0: saved(block, tmp_path),
        1: tmp_path / "bad.onnx",
        2: tmp_path / "missing.onnx",
    }
    onnx.save(drawn(conv_reading(zero=1)), files[1])
    for code, file in files.items():
        script = [sys.executable, ROOT / "scripts" / "lint_onnx.py", "--onnx", file]
        done = subprocess.run([*script, "--target", "tensorrt"], capture_output=True, cwd=tmp_path)
        assert done.returncode == code, done.stderr


def test_command_reads_scales_that_lie_beside_the_file(tmp_path: Path) -> None:
    for draw, code in ((block, 0), (conv_reading(scale=0.0), 1)):
        folder = tmp_path / str(code)
        folder.mkdir()
        assert linted(save_apart(draw, folder)) == code


def broken(content: bytes | None) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        file = folder / "model.onnx"
        if content is not None:
            file.write_bytes(content)
        return file

    return write


def without_weights_file(folder: Path) -> Path:
    file = save_apart(block, folder)
    (folder / "beside.bin").unlink()
    return file


@pytest.mark.parametrize(
    ("make", "text"),
    [
        pytest.param(broken(None), "model.onnx: No such file", id="missing"),
        pytest.param(lambda folder: folder, "Is a directory", id="folder"),
        pytest.param(broken(b""), "model.onnx: is no ONNX file", id="empty"),
        pytest.param(broken(b"PK\x03\x04 a checkpoint"), "is no ONNX file", id="another file"),
        pytest.param(broken(drawn(block).SerializeToString()[:-9]), "is no ONNX file", id="cut"),
        pytest.param(without_weights_file, "cannot be read", id="external data missing"),
        pytest.param(
            broken(b"version https://git-lfs.github.com/spec/v1\n"), "git lfs pull", id="pointer"
        ),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(
    make: Callable[[Path], Path], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert linted(make(tmp_path)) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ") and text in printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        pytest.param([], "no ONNX file is given: make lint-onnx ONNX=", id="no file"),
        pytest.param(["--onnx", "m.onnx", "--target", "trt"], "--target: invalid", id="target"),
    ],
)
def test_a_slip_on_the_command_line_is_one_line(
    arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main("lint_onnx", arguments) == 2
    printed = capsys.readouterr().err
    assert text in printed and printed.count("\n") == 1


def unsorted(n: Net) -> onnx.ModelProto:
    model = block(n)
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def without_opset(n: Net) -> onnx.ModelProto:
    model = block(n)
    del model.opset_import[:]
    return model


def scale_of_too_few_bytes(n: Net) -> onnx.ModelProto:
    model = conv_reading()(n)
    model.graph.initializer[0].raw_data = b"12"
    return model


def name_in_another_encoding(n: Net) -> onnx.ModelProto:
    model = n.model(n.add("Plugin", "x", domain="local"))
    content = model.SerializeToString().replace(b"Plugin_0", b"Plugin\xff0")
    return onnx.ModelProto.FromString(content)


def domain_in_another_encoding(n: Net) -> onnx.ModelProto:
    model = n.model(n.add("Plugin", "x", domain="local"))
    content = model.SerializeToString().replace(b"local", b"l\xffcal")
    return onnx.ModelProto.FromString(content)


@pytest.mark.parametrize(
    "draw",
    [
        unsorted,
        without_opset,
        scale_of_too_few_bytes,
        name_in_another_encoding,
        domain_in_another_encoding,
    ],
)
def test_a_damaged_model_is_an_error(draw: Draw) -> None:
    for target in TARGETS:
        [finding] = lint(drawn(draw), target)
        assert (finding.level, finding.rule) == ("error", "invalid-model")
        assert finding.message and "\n" not in finding.message


def test_names_cannot_break_the_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = drawn(lambda n: n.model(n.conv("x")))
    model.graph.node[-1].name = "a\nb\x1b[31m"
    onnx.save(model, tmp_path / "model.onnx")
    assert linted(tmp_path / "model.onnx") == 0
    finding, _ = capsys.readouterr().out.splitlines()
    assert "[a\\nb\\x1b[31m]" in finding


def test_any_bytes_are_judged_or_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(0)
    whole = drawn(concat(0.1, 0.2, 0.2)).SerializeToString()
    file = tmp_path / "model.onnx"
    codes = set()
    for _ in range(300):
        content = bytearray(
            whole[: chance.randrange(len(whole)) if chance.random() < 0.3 else None]
        )
        for _ in range(min(len(content), chance.randrange(4))):
            content[chance.randrange(len(content))] = chance.randrange(256)
        file.write_bytes(content)
        codes.add(linted(file))
    assert codes == {0, 1, 2}


OPERATORS = ("Add", "Concat", "Conv", "Identity", "MaxPool", "Mul", "Relu", "Resize", "Sigmoid")


@pytest.mark.parametrize("seed", range(20))
def test_random_graphs(seed: int) -> None:
    chance = random.Random(seed)
    n = Net()
    tensors = ["x"]
    for _ in range(60):
        op, x = chance.choice((*OPERATORS, "pair", "q", "dq")), chance.choice(tensors[-6:])
        if op in ("pair", "q", "dq"):
            made = getattr(n, op)(x, chance.choice((0.1, 0.2)))
        elif op == "Conv":
            made = chance.choice((n.conv, n.float_conv))(x)
        elif op == "Resize":
            made = n.upsample(x)
        else:
            inputs = [x, chance.choice(tensors)] if op in ("Add", "Concat", "Mul") else [x]
            options = {"Concat": {"axis": 1}, "MaxPool": {"kernel_shape": [1, 1]}}
            made = n.add(op, *inputs, **options.get(op, {}))
        tensors.append(made)
    model = n.model(tensors[-1])
    names = {node.name for node in model.graph.node}
    for target in TARGETS:
        findings = lint(model, target)
        assert "invalid-model" not in {finding.rule for finding in findings}
        assert names.issuperset(name for finding in findings for name in finding.nodes)
