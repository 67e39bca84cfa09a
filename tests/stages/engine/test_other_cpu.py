"""Engines that are right on one CPU and wrong on another: found when built, and when opened."""

import copy
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from lint_draws import concat_read, drawn
from onnx import TensorProto, helper, numpy_helper
from tiny_quant import USUAL, as_input

import yoloq
from yoloq.__main__ import main
from yoloq.base.errors import EngineError, UserError
from yoloq.base.machine import is_x86_without_amx
from yoloq.base.own_files import WEIGHTS
from yoloq.data.synthetic import draw_example
from yoloq.engines import get_engine
from yoloq.engines.predictor import ModelInfo
from yoloq.engines.source import Source
from yoloq.graph.lint.table import lint
from yoloq.models.load import load_model
from yoloq.quant.calibrate import calibrate
from yoloq.quant.observer import collect
from yoloq.quant.policy import conv_layers, default_policy
from yoloq.quant.quantized import quantize_model
from yoloq.quant.trace import sibling_groups, trace
from yoloq.stages.engine.build import write_onnx
from yoloq.stages.engine.gate import Gate

pytestmark = pytest.mark.usefixtures("one_thread")

ENGINE = "engine-onnxruntime"


def openvinos(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    core = pytest.importorskip("yoloq.engines.openvino").core()
    compiled = core.compile_model(core.read_model(model.SerializeToString()), "CPU")
    return np.asarray(next(iter(compiled(x).values())))


def exact(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    """What ONNX means by the graph."""
    from onnx.reference import ReferenceEvaluator

    return np.asarray(ReferenceEvaluator(model).run(None, {"x": x})[0])


@pytest.mark.parametrize(
    ("dtype", "zero"), [(np.int8, 0), (np.uint8, 128), (None, 0)], ids=["int8", "uint8", "branches"]
)
def test_openvino_is_wrong_where_the_rule_says_so_alone(dtype: Any, zero: int) -> None:
    """Where it is right on this CPU in spite of the rule nothing is lost."""
    model = drawn(concat_read(dtype, zero))
    x = np.random.default_rng(0).normal(0, 1, (1, 4, 8, 8)).astype(np.float32)
    wanted = exact(model, x)
    off = float(np.abs(openvinos(model, x) - wanted).max() / np.abs(wanted).max())
    named = "signed-concat" in {finding.rule for finding in lint(model, "openvino", here=True)}
    assert off < 0.02 or named, off
    assert named == (dtype is not np.uint8 and is_x86_without_amx())


@pytest.mark.skipif(not is_x86_without_amx(), reason="this CPU computes that file rightly")
def test_the_gate_stops_a_file_that_this_cpu_computes_wrongly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same placement as ModelOpt's: int8 behind every Concat."""
    openvino = pytest.importorskip("yoloq.engines.openvino")
    model = load_model(WEIGHTS)
    images = np.stack([draw_example(np.random.default_rng(i), 320)[0] for i in range(4)])
    images = np.ascontiguousarray(images[..., ::-1])  # they are BGR
    net = copy.deepcopy(model.net)
    inputs = collect(net, sibling_groups(trace(net)), [as_input(images)], len(images)).inputs
    own = load_model(WEIGHTS)
    made = quantize_model(own, default_policy(conv_layers(own.net), **USUAL))
    calibrate(own.net, made.placement, inputs, "mse")
    source = Source(ModelInfo(model.head, model.names, 320), model, made)
    gate = Gate(model.head, tmp_path, write_onnx({"ptq": source}, True, tmp_path), images, 1)
    row = get_engine("openvino")
    right = row.load(row.make(source, "int8", tmp_path), "int8", "cpu", 1)
    gate.check("openvino", "int8", right)
    monkeypatch.setattr(openvino, "wants_unsigned", lambda: False)
    wrong = row.load(row.make(source, "int8", tmp_path), "int8", "cpu", 1)
    with pytest.raises(EngineError, match=r"are not those of model-int8.onnx .*computes wrongly"):
        gate.check("openvino", "int8", wrong)


@pytest.fixture
def run(ready: Path, tmp_path: Path) -> Path:
    """A finished run that was made on another CPU."""
    shutil.copytree(ready / "run", tmp_path / "runs" / "run")
    folder = tmp_path / "runs" / "run"
    change(folder, environment=lambda old: old | {"cpu": "Xeon with AMX", "isa": ["amx_int8"]})
    return folder


def change(run: Path, **parts: Callable[[Any], Any]) -> None:
    file = run / f"{ENGINE}.json"
    data = json.loads(file.read_text())
    file.write_text(json.dumps(data | {name: new(data[name]) for name, new in parts.items()}))


def spoil(run: Path, name: str) -> None:
    """An engine that computes something else here: the weights of its head are negated."""
    model = onnx.load(run / name)
    last = [node for node in model.graph.node if node.op_type == "Conv"][-1]
    [weight] = [each for each in model.graph.initializer if each.name == last.input[1]]
    weight.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(weight), weight.name))
    onnx.save(model, run / name)
    digest = hashlib.sha256((run / name).read_bytes()).hexdigest()
    change(run, hashes=lambda old: old | {name: digest})


def predict(run: Path, *flags: str) -> int:
    photo = run.parent / "photo.png"
    cv2.imwrite(str(photo), np.zeros((64, 64, 3), np.uint8))
    where = ("--project", str(run.parent), "--name", run.name, "--device", "cpu", "--threads", "1")
    return main("predict", [*where, "--source", str(photo), *flags])


def test_a_few_images_are_kept_beside_an_engine(ready: Path) -> None:
    data = json.loads((ready / "run" / f"{ENGINE}.json").read_text())
    assert data["artifacts"]["gate"] == f"{ENGINE}-gate.npz"
    with np.load(ready / "run" / f"{ENGINE}-gate.npz") as kept:
        assert kept["images"].shape == (4, 64, 64, 3) and kept["images"].dtype == np.uint8


def test_where_it_was_built_an_engine_is_opened_at_once(
    ready: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(ready / "run", tmp_path / "runs" / "run")
    assert predict(tmp_path / "runs" / "run") == 0
    assert "gated again" not in capsys.readouterr().err


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_elsewhere_it_is_gated_again(
    precision: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(run, "--precision", precision) == 0
    said = capsys.readouterr().err
    assert "gated on another machine (Xeon with AMX)" in said
    assert f"onnxruntime {precision}: gated again on this machine, " in said
    detector = yoloq.open_engine(run, precision=precision, threads=1)
    assert detector.predictor.model.imgsz == 64


def test_what_does_not_pass_is_not_used(run: Path, the_error: Callable[[], str], capsys) -> None:
    spoil(run, "onnxruntime-fp32.onnx")
    before = sorted(run.rglob("*"))
    with pytest.raises(UserError, match=r"fp32: its .* are not those of model-fp32.onnx"):
        yoloq.open_engine(run, precision="fp32", threads=1)
    capsys.readouterr()
    assert predict(run, "--precision", "fp32") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "it computes wrongly; make engine " in error and "--force" in error
    assert sorted(run.rglob("*")) == before


def test_its_kept_images_may_not_be_others(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / f"{ENGINE}-gate.npz").write_bytes(b"x")
    assert predict(run) == 2
    assert f"{ENGINE}-gate.npz: is missing or was changed" in capsys.readouterr().err


def test_without_images_a_warning_is_all(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(run, artifacts=lambda old: {k: v for k, v in old.items() if k != "gate"})
    assert predict(run) == 0
    said = capsys.readouterr().err
    assert "gated on another machine" in said and "gated again" not in said


def graph(*nodes: onnx.NodeProto, outputs: int = 3) -> onnx.ModelProto:
    """A graph that takes the image of the tiny set."""
    image = helper.make_tensor_value_info("images", TensorProto.UINT8, [1, 64, 64, 3])
    made = [helper.make_tensor_value_info(f"y{i}", TensorProto.FLOAT, None) for i in range(outputs)]
    return helper.make_model(
        helper.make_graph(list(nodes), "g", [image], made),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )


def thrice(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    """A graph whose three outputs are one value, `x`."""
    return graph(*nodes, *(helper.make_node("Identity", ["x"], [f"y{i}"]) for i in range(3)))


def external(location: str) -> onnx.ModelProto:
    """A constant that lies elsewhere."""
    model, tensor = thrice(), numpy_helper.from_array(np.zeros(1, np.float32), "x")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    tensor.external_data.add(key="length", value="4")
    model.graph.initializer.append(tensor)
    return model


def terabytes() -> onnx.ModelProto:
    model = thrice(helper.make_node("ConstantOfShape", ["n"], ["x"]))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1 << 40]), "n"))
    return model


def as_float(to: str) -> onnx.NodeProto:
    """The image itself, as an output."""
    return helper.make_node("Cast", ["images"], [to], to=TensorProto.FLOAT)


CIRCLE = [helper.make_node("Neg", [a], [b]) for a, b in ("zx", "xz")]
HOSTILE: dict[str, bytes] = {
    "no graph": b"hello",
    "external data above": external("../secret.bin").SerializeToString(),
    "external data elsewhere": external("/etc/hostname").SerializeToString(),
    "circle": thrice(*CIRCLE).SerializeToString(),
    "terabytes": terabytes().SerializeToString(),
    "an unknown step": thrice(
        helper.make_node("Shell", ["images"], ["x"], domain="os")
    ).SerializeToString(),
    "fewer outputs": graph(as_float("y0"), outputs=1).SerializeToString(),
    "other shapes": thrice(as_float("x")).SerializeToString(),
}


@pytest.mark.parametrize("key", ["fp32", "int8"])
@pytest.mark.parametrize("case", HOSTILE)
def test_a_reference_that_does_harm_is_one_line(
    case: str, key: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"model-{key}.onnx"
    (run.parent / "secret.bin").write_bytes(bytes(4))
    (run / name).write_bytes(HOSTILE[case])
    digest = hashlib.sha256((run / name).read_bytes()).hexdigest()
    change(run, hashes=lambda old: old | {name: digest})
    before = sorted(run.rglob("*"))
    capsys.readouterr()
    assert predict(run) == 2
    [error] = [x for x in capsys.readouterr().err.splitlines() if not x.startswith("warning: ")]
    assert error.startswith("error: ") and ".onnx: " in error and "--force" in error
    assert sorted(run.rglob("*")) == before


@pytest.mark.parametrize(
    "images",
    [
        pytest.param(np.zeros((4, 32, 32, 3), np.uint8), id="small"),
        pytest.param(np.zeros((4, 64, 64, 3), np.float32), id="floats"),
        pytest.param(np.zeros(3, np.uint8), id="no images"),
        pytest.param(np.array([{}], object), id="objects"),
    ],
)
def test_kept_images_that_do_not_fit_are_one_line(
    images: np.ndarray, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"{ENGINE}-gate.npz"
    np.savez(run / name, images=images)
    digest = hashlib.sha256((run / name).read_bytes()).hexdigest()
    change(run, hashes=lambda old: old | {name: digest})
    assert predict(run) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: {run / name}: cannot be read (") and "--force" in error


def test_without_the_float_reference_there_is_no_gate(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(run, artifacts=lambda old: {k: v for k, v in old.items() if k != "onnx-fp32"})
    assert predict(run) == 0
    assert "gated again" not in capsys.readouterr().err
