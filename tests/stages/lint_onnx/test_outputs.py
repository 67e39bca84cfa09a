"""Graphs that are run on images: outputs that tell nothing of them are found."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny_set import make_tiny_set

from yoloq.stages.lint_onnx import LintConfig
from yoloq.stages.lint_onnx.outputs import dead_outputs
from yoloq.stages.lint_onnx.stage import run

UINT8, FLOAT = TensorProto.UINT8, TensorProto.FLOAT
NHWC, NCHW = (1, 64, 64, 3), (1, 3, 64, 64)


def graph(
    file: Path,
    last: Sequence[tuple],
    shape: Sequence[Any] = NCHW,
    dtype: int = FLOAT,
    **consts: Any,
) -> Path:
    """A graph of the image's mean `m` (1, 1, 1), and then the given (operator, inputs, output)."""
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=FLOAT),
        helper.make_node("ReduceMean", ["floats"], ["all"], keepdims=0),
        helper.make_node("Reshape", ["all", "one"], ["m"]),
    ]
    nodes += [helper.make_node(op, inputs, [output], **more) for op, inputs, output, more in last]
    consts["one"] = np.array([1, 1, 1], np.int64)
    initializers = [numpy_helper.from_array(np.asarray(v), k) for k, v in consts.items()]
    images = helper.make_tensor_value_info("images", dtype, shape)
    output = helper.make_tensor_value_info("y", FLOAT, None)
    made = helper.make_graph(nodes, "g", [images], [output], initializers)
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(made, opset_imports=opsets, ir_version=10), file)
    return file


def scaled(*columns: float) -> dict[str, Any]:
    """Nine boxes, each column of which is the mean of the image times a factor."""
    factors = np.tile(np.array(columns, np.float32), (9, 1))[None]
    return {"last": [("Mul", ["m", "k"], "y", {})], "k": factors}


ALIVE = scaled(1, 2, 3, 4, 0.5, 0.1)
CASES = {
    "alive": (ALIVE, ""),
    "every score 0": (scaled(1, 2, 3, 4, 0, 0), "every score is 0 for each of 2 images"),
    "every score the same": (
        {
            "last": [("Mul", ["m", "k"], "z", {}), ("Add", ["z", "c"], "y", {})],
            "k": scaled(1, 2, 3, 4, 0, 0)["k"],
            "c": np.array([0, 0, 0, 0, 0.5, 0.5], np.float32),
        },
        "every score is 0.5 for each of 2 images",
    ),
    "all 0": (scaled(0, 0, 0, 0, 0, 0, 0, 0), "is 0 for each of 2 images"),
    "constant": (scaled(1, 1, 1, 1, 1, 1), "is one constant"),
    "not finite": (scaled(1, 2, np.nan, 4, 1, 1), "holds NaN or infinite values"),
    "the same": (
        {"last": [("Sub", ["m", "m"], "z", {}), ("Add", ["z", "k"], "y", {})], "k": ALIVE["k"]},
        "is the same for each of 2 images",
    ),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_tiny_set(tmp_path_factory.mktemp("set"), 2).data)


@pytest.mark.parametrize(("fields", "message"), CASES.values(), ids=CASES)
def test_dead_outputs(fields: dict[str, Any], message: str, data: str, tmp_path: Path) -> None:
    found = dead_outputs(graph(tmp_path / "a.onnx", **fields), data, 2)
    assert [finding.message for finding in found] == ([message] if message else [])
    assert all((f.level, f.nodes) == ("error", ("y",)) for f in found)


def test_no_detection_is_no_error(data: str, tmp_path: Path) -> None:
    """Six columns may be corners, score and class of what NMS kept: nothing, on these images."""
    (found,) = dead_outputs(graph(tmp_path / "a.onnx", **scaled(0, 0, 0, 0, 0, 0)), data, 2)
    assert (found.level, found.message) == ("warning", "is 0 for each of 2 images")


def test_a_score_that_is_0_alone_is_no_error(data: str, tmp_path: Path) -> None:
    (found,) = dead_outputs(graph(tmp_path / "a.onnx", **scaled(1, 2, 3, 4, 0, 1)), data, 2)
    assert (found.level, found.nodes) == ("warning", ("y",))
    assert found.message.startswith("score column 4 is 0 for each of 2 images")


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        pytest.param(NHWC, UINT8, id="yoloq's"),
        pytest.param(NCHW, FLOAT, id="YOLOv5's"),
        pytest.param(NCHW, UINT8, id="uint8, channels first"),
        pytest.param(NHWC, FLOAT, id="channels last"),
        pytest.param(NCHW, TensorProto.FLOAT16, id="FP16"),
        pytest.param(("n", 3, "h", "w"), FLOAT, id="any size"),
        pytest.param((4, 3, 64, 64), FLOAT, id="a batch"),
    ],
)
def test_forms_of_an_image(shape: Sequence[Any], dtype: int, data: str, tmp_path: Path) -> None:
    assert (
        dead_outputs(graph(tmp_path / "a.onnx", shape=shape, dtype=dtype, **ALIVE), data, 2) == []
    )


def test_findings_stand_beside_those_of_the_rules(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = graph(tmp_path / "a.onnx", **CASES["every score 0"][0])
    assert run(LintConfig(onnx=str(file), target="openvino", run=2, data=data)) == 1
    assert "error    dead-output: every score is 0" in capsys.readouterr().out
    assert run(LintConfig(onnx=str(file), target="openvino")) == 0


@pytest.mark.parametrize(
    ("shape", "last", "reason"),
    [
        pytest.param((1, 4, 8, 8), ALIVE["last"], "is no image of 3 colours", id="no image"),
        pytest.param((1, 3, 64, 32), ALIVE["last"], "64 x 32; only squares", id="no square"),
        pytest.param(
            NCHW, [("Plugin", ["m"], "y", {"domain": "mine"})], "cannot run it", id="no kernel"
        ),
    ],
)
def test_what_cannot_be_run_is_said(
    shape: Any, last: Any, reason: str, data: str, tmp_path: Path, capsys: Any
) -> None:
    file = graph(tmp_path / "a.onnx", last=last, shape=shape, k=ALIVE["k"])
    run(LintConfig(onnx=str(file), run=2, data=data))
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "not run: " in line)
    assert reason in line
