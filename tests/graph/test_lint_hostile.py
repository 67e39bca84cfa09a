"""ONNX files made to do harm: judged or refused in seconds, and nothing outside is read."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from lint_draws import block, conv_with, drawn
from lint_graphs import FLOAT, Net
from onnx import TensorProto, helper

from yoloq.__main__ import main
from yoloq.engines.tensorrt.library import Library
from yoloq.graph.lint import TARGETS
from yoloq.graph.lint.table import lint

SECONDS = 10


@pytest.fixture(autouse=True)
def _rules_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Library, "is_installed", lambda library: False)


def linted(file: Path, *more: str) -> int:
    began = time.perf_counter()
    code = main("lint_onnx", ["--onnx", str(file), "--target", "openvino", *more])
    assert time.perf_counter() - began < SECONDS
    return code


def outside(location: str, length: int | None = 4) -> Callable[[Path], Path]:
    """A file whose first scale lies elsewhere."""

    def make(folder: Path) -> Path:
        (folder / "secret.bin").write_bytes(np.float32(0.25).tobytes())
        inner = folder / "inner"
        inner.mkdir()
        (inner / "link.bin").symlink_to(folder / "secret.bin")
        (inner / "large.bin").touch()
        import os

        os.truncate(inner / "large.bin", 1 << 40)  # without a block on the disk
        model = drawn(block)
        scale = model.graph.initializer[0]
        scale.ClearField("raw_data")
        scale.data_location = TensorProto.EXTERNAL
        entries = {"location": location.format(folder), "length": length}
        for key, value in entries.items():
            if value is not None:
                scale.external_data.add(key=key, value=str(value))
        (inner / "model.onnx").write_bytes(model.SerializeToString())
        return inner / "model.onnx"

    return make


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(outside("../secret.bin"), id="above"),
        pytest.param(outside("{}/secret.bin"), id="absolute"),
        pytest.param(outside("link.bin"), id="link"),
        pytest.param(outside("x/../../secret.bin"), id="above in the middle"),
        pytest.param(outside("large.bin", 1 << 40), id="a terabyte"),
        pytest.param(outside("large.bin", None), id="a terabyte without a word"),
        pytest.param(outside("large.bin", -1), id="a negative length"),
        pytest.param(outside("", None), id="no name"),
    ],
)
def test_external_data_is_read_beside_the_file_alone(
    make: Callable[[Path], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert linted(make(tmp_path)) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "cannot be read" in line and line.endswith("keep the file of external data beside it")


def circle(n: Net) -> onnx.ModelProto:
    model = n.model(n.add("Relu", "x"))
    model.graph.node[0].input[0] = model.graph.node[0].output[0]
    return model


def grown(*operators: str) -> Callable[[Net], onnx.ModelProto]:
    """A convolution whose weight the graph makes of a number: of 10^12 ones."""

    def draw(n: Net) -> onnx.ModelProto:
        shape = n.constant([10**6, 10**6, 1, 1], np.int64)
        one = n.constant([1.0])
        weight = {
            "ConstantOfShape": lambda: n.add("ConstantOfShape", shape),
            "Expand": lambda: n.add("Expand", one, shape),
            "Tile": lambda: n.add("Tile", n.constant(np.ones((1, 1, 1, 1))), shape),
            "Range": lambda: n.add("Range", *(n.constant(v) for v in (0.0, 1e12, 1.0))),
        }[operators[0]]()
        return n.model(n.add("Conv", "x", weight))

    return draw


def product(n: Net) -> onnx.ModelProto:
    """Two small constants whose product has 10^10 numbers."""
    row, column = n.constant(np.ones((1, 10**5))), n.constant(np.ones((10**5, 1)))
    return n.model(n.add("MatMul", "x", n.add("Mul", row, column)))


def endless(n: Net) -> onnx.ModelProto:
    """A weight of a loop that runs for ever."""
    names = ("i", TensorProto.INT64), ("c", TensorProto.BOOL), ("v", FLOAT)
    inputs = [helper.make_tensor_value_info(name, kind, []) for name, kind in names]
    outputs = [helper.make_tensor_value_info(name, kind, []) for name, kind in names[1:]]
    body = helper.make_graph([], "body", inputs, outputs)
    count, go = n.constant(2**60, np.int64), n.constant(True, np.bool_)
    weight = n.add("Loop", count, go, n.constant(1.0), body=body)
    return n.model(n.add("Mul", n.add("Conv", "x", weight), "x"))


def doubled_functions(n: Net) -> onnx.ModelProto:
    """Thirty functions, each of which calls the one before it twice."""
    model = n.model(n.add("F30", "x", domain="local"))
    opsets = [helper.make_opsetid("", n.opset), helper.make_opsetid("local", 1)]
    first = [helper.make_node("Relu", ["a"], ["b"])]
    model.functions.append(helper.make_function("local", "F0", ["a"], ["b"], first, opsets))
    for i in range(1, 31):
        calls = [
            helper.make_node(f"F{i - 1}", ["a"], ["m"], domain="local"),
            helper.make_node(f"F{i - 1}", ["m"], ["b"], domain="local"),
        ]
        model.functions.append(helper.make_function("local", f"F{i}", ["a"], ["b"], calls, opsets))
    return model


def own_function(n: Net) -> onnx.ModelProto:
    model = n.model(n.add("F", "x", domain="local"))
    opsets = [helper.make_opsetid("", n.opset), helper.make_opsetid("local", 1)]
    calls = [helper.make_node("F", ["a"], ["b"], domain="local")]
    model.functions.append(helper.make_function("local", "F", ["a"], ["b"], calls, opsets))
    return model


def of_shape(*shape: int) -> Callable[[Net], onnx.ModelProto]:
    """A weight that claims a shape and has four bytes."""

    def draw(n: Net) -> onnx.ModelProto:
        model = conv_with()(n)
        weight = max(model.graph.initializer, key=lambda tensor: len(tensor.dims))
        del weight.dims[:]
        weight.dims.extend(shape)
        weight.raw_data = b"1234"
        return model

    return draw


HOSTILE = {
    "circle": circle,
    "ConstantOfShape": grown("ConstantOfShape"),
    "Expand": grown("Expand"),
    "Tile": grown("Tile"),
    "Range": grown("Range"),
    "product": product,
    "loop": endless,
    "doubled functions": doubled_functions,
    "own function": own_function,
    "shape of 10^18": of_shape(10**9, 10**9, 1, 1),
    "shape of 2^80": of_shape(2**40, 2**40, 1, 1),
    "negative shape": of_shape(-4, 4, 1, 1),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_graph_is_judged_in_seconds(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(drawn(HOSTILE[name]).SerializeToString())
    assert linted(file) in (0, 1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith(f"{file} for openvino: ")
    for target in TARGETS:
        began = time.perf_counter()
        lint(drawn(HOSTILE[name]), target)
        assert time.perf_counter() - began < SECONDS


@pytest.mark.parametrize("name", ["circle", "own function", "doubled functions"])
def test_what_is_no_graph_is_an_error(name: str) -> None:
    [finding] = lint(drawn(HOSTILE[name]), TARGETS[0])
    assert (finding.level, finding.rule) == ("error", "invalid-model")
