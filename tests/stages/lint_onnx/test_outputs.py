"""Graphs that are run on images: outputs that tell nothing of them are found."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny_set import make_tiny_set

from yoloq.stages.lint_onnx import LintConfig
from yoloq.stages.lint_onnx.image_input import ImageInput
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
        pytest.param((1, 3, 32, 64), FLOAT, id="wide"),
        pytest.param((1, 64, 40, 3), UINT8, id="tall, channels last"),
        pytest.param((1, 3, "h", 64), FLOAT, id="any height"),
        pytest.param(("n", "c", "h", "w"), FLOAT, id="nothing fixed"),
        pytest.param(NCHW, TensorProto.DOUBLE, id="FP64"),
    ],
)
def test_forms_of_an_image(shape: Sequence[Any], dtype: int, data: str, tmp_path: Path) -> None:
    assert (
        dead_outputs(graph(tmp_path / "a.onnx", shape=shape, dtype=dtype, **ALIVE), data, 2) == []
    )


def kept(*columns: float) -> dict[str, Any]:
    """Boxes that NMS kept, as many on an image as its mean from 0 to 1 times 20 says.

    Corners and score follow the mean as well, the class does not.
    """
    factors = np.array(columns, np.float32).reshape(1, 1, -1)
    moves = np.array([[[1, 1, 1, 1, 1, 0]]], np.float32)
    return {
        "last": [
            ("Mul", ["m", "moves"], "moved", {}),
            ("Add", ["moved", "stays"], "row", {}),
            ("Mul", ["row", "k"], "box", {}),
            ("Mul", ["all", "most"], "boxes", {}),
            ("Cast", ["boxes"], "whole", {"to": TensorProto.INT64}),
            ("Unsqueeze", ["whole", "axis"], "n", {}),
            ("Concat", ["one_", "n", "one_"], "shape", {"axis": 0}),
            ("Expand", ["box", "shape"], "y", {}),
        ],
        **{"moves": moves, "stays": 1 - moves, "k": factors, "most": np.float32(20)},
        **{"axis": np.array([0]), "one_": np.array([1])},
    }


@pytest.mark.parametrize(
    ("columns", "messages"),
    [
        pytest.param((1, 2, 3, 4, 0.5, 2), [], id="alive"),
        pytest.param((1, 2, 3, 4, 0, 2), ["every score is 0 for each of 6 images"], id="dead"),
    ],
)
def test_as_many_boxes_as_nms_keeps(columns, messages, tmp_path: Path) -> None:
    """Another number on each image: black ones, with none at all, to white ones."""
    data = greys(tmp_path, [0, 50, 100, 150, 200, 250])
    found = dead_outputs(graph(tmp_path / "a.onnx", **kept(*columns)), data, 6)
    assert [(f.level, f.message) for f in found] == [("error", text) for text in messages]


def greys(folder: Path, values: Sequence[int]) -> str:
    """A set of images of one grey each."""
    (folder / "images").mkdir()
    for value in values:
        image = np.full((64, 64, 3), value, np.uint8)
        cv2.imwrite(str(folder / "images" / f"{value:03}.png"), image)
    (folder / "d.yaml").write_text("val: images\nnames: [a]\n")
    return str(folder / "d.yaml")


def rounded(file: Path) -> Path:
    """Takes 0 to 255: half a level and less of it is lost."""
    last = [
        ("Div", ["m", "half"], "a", {}),
        ("Round", ["a"], "b", {}),
        ("Mul", ["b", "k"], "y", {}),
    ]
    return graph(file, last, half=np.float32(2), k=scaled(1, 2, 3, 4, 0.5, 0.1, 0.2, 0.3)["k"])


def test_a_graph_that_divides_by_255_itself(data: str, tmp_path: Path) -> None:
    (found,) = dead_outputs(rounded(tmp_path / "a.onnx"), data, 2)
    assert found.level == "warning"
    assert found.message == (
        "is 0 for each of 2 images where pixels are 0 to 1; alive where they are 0 to 255"
    )


OUTPUTS = {
    "a number": ([("Squeeze", ["m"], "y", {})], []),
    "a sequence": ([("SequenceConstruct", ["m"], "y", {})], []),
    "anchors": ([("Identity", ["k"], "anchors", {}), *ALIVE["last"]], []),
    "anchors alone": ([("Identity", ["k"], "y", {})], [("error", "is the same")]),
    "no class but 0": (
        [("Sub", ["m", "m"], "z", {}), ("Squeeze", ["z", "zero"], "classes", {}), *ALIVE["last"]],
        [("warning", "is 0 for each")],
    ),
}


@pytest.mark.parametrize(("last", "found"), OUTPUTS.values(), ids=OUTPUTS)
def test_outputs_of_other_kinds(last: Any, found: Any, data: str, tmp_path: Path) -> None:
    file = graph(tmp_path / "a.onnx", last, k=ALIVE["k"], zero=np.array([0]))
    model = onnx.load(file)
    if last[0][0] == "SequenceConstruct":
        model.graph.output[0].CopyFrom(helper.make_tensor_sequence_value_info("y", FLOAT, None))
    for name in {"anchors", "classes"} & {output for _, _, output, _ in last}:
        model.graph.output.append(helper.make_tensor_value_info(name, FLOAT, None))
    onnx.save(model, file)
    findings = dead_outputs(file, data, 2)
    assert [
        (f.level, f.message[: len(text)]) for f, (_, text) in zip(findings, found, strict=True)
    ] == found


def test_findings_stand_beside_those_of_the_rules(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = graph(tmp_path / "a.onnx", **CASES["every score 0"][0])
    assert run(LintConfig(onnx=str(file), target="openvino", run=2, data=data)).exit_code == 1
    assert "error    dead-output: every score is 0" in capsys.readouterr().out
    assert run(LintConfig(onnx=str(file), target="openvino")).exit_code == 0


@pytest.mark.parametrize(
    ("shape", "last", "reason"),
    [
        pytest.param((1, 4, 8, 8), ALIVE["last"], "is no image of 3 colours", id="no image"),
        pytest.param((3, 64, 64), ALIVE["last"], "is no image of 3 colours", id="no batch"),
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


def test_several_inputs_are_named(data: str, tmp_path: Path, capsys: Any) -> None:
    file = graph(tmp_path / "a.onnx", **ALIVE)
    model = onnx.load(file)
    model.graph.input.append(helper.make_tensor_value_info("sizes", FLOAT, (1, 2)))
    onnx.save(model, file)
    run(LintConfig(onnx=str(file), run=2, data=data))
    assert "not run: it has 2 inputs (images, sizes)" in capsys.readouterr().out


def test_what_is_cut_is_the_middle() -> None:
    image = np.arange(6 * 6 * 3, dtype=np.uint8).reshape(1, 6, 6, 3)
    taken = ImageInput("x", np.float32, False, (2, 4), 2)
    want = image[0, 2:4, 1:5].transpose(2, 0, 1) / np.float32(255)
    assert np.array_equal(taken.of(image, 255.0), [want, want])
