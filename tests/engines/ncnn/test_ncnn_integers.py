"""What the files of ncnn hold of a calibrated network, and what ncnn computes from them."""

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from engine_source import source
from engine_wheels import need
from onnx_graphs import run
from rounding import CHANCE, MANY, typical
from shallow_net import ALL, ASYMMETRIC, POLICIES, SYMMETRIC, outputs, shallow
from tiny_quant import ACTIVATIONS, as_input, pictures, signal_to_noise, tiny_model, tiny_quantized

from yoloq.base.errors import EngineError, PolicyError
from yoloq.engines import get_engine
from yoloq.engines.ncnn import write
from yoloq.engines.ncnn.loaded_net import NcnnPredictor
from yoloq.engines.predictor import ModelInfo
from yoloq.engines.source import Source
from yoloq.graph.export import export_float
from yoloq.graph.lower import lower_minimal
from yoloq.quant.policy import Policy, Rule
from yoloq.quant.spec import WEIGHT

pytestmark = pytest.mark.usefixtures("one_thread")
EXACT = 60  # dB; nothing but sums of floats in another order


@pytest.fixture(scope="module", autouse=True)
def _ncnn() -> None:
    need("ncnn")


def opened(policy: Policy | None, folder: Path, activation: str = "SiLU") -> NcnnPredictor:
    net, _ = shallow(policy, activation=activation)
    head, file = source("yolov5").info.head, folder / "net.param"
    made = Source(ModelInfo(head, ("a",), 64), tiny_model(), tiny_quantized())
    write(lower_minimal(export_float(net, 64), net), made, file)
    return NcnnPredictor(file, 1)


@pytest.mark.parametrize("policy", SYMMETRIC.values(), ids=SYMMETRIC)
def test_it_computes_the_network_with_its_fake_quantizers(policy: Policy, tmp_path: Path) -> None:
    net, _ = shallow(policy)
    wanted = run(lower_minimal(export_float(net, 64), net), MANY)
    found = opened(policy, tmp_path)(MANY)
    exact = outputs(shallow(None)[0])
    loss = signal_to_noise(exact, wanted)
    assert signal_to_noise(exact, found) >= min(loss, EXACT) - CHANCE
    assert typical(wanted, found) >= min(loss, EXACT) + 3


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_behind_every_activation(activation: str, tmp_path: Path) -> None:
    exact = outputs(shallow(None, activation=activation)[0])
    loss = signal_to_noise(exact, outputs(shallow(Policy((ALL,)), activation=activation)[0]))
    found = opened(Policy((ALL,)), tmp_path, activation)(MANY)
    assert signal_to_noise(exact, found) >= loss - CHANCE


def test_a_network_with_attention_whose_shapes_are_computed(tmp_path: Path) -> None:
    model, quantized = tiny_model("yolo11n"), tiny_quantized("yolo11n")
    made = Source(ModelInfo(model.head, model.names, 64), model, quantized)
    images, engine = pictures(4, seed=7), get_engine("ncnn")
    with torch.inference_mode():
        exact = [raw.numpy() for raw in model.net(as_input(images))]
        simulated = [raw.numpy() for raw in quantized.model.net(as_input(images))]
    files = {p: engine.make(made, p, tmp_path) for p in ("fp32", "int8")}
    found = {p: engine.load(file, p, "cpu", 1)(images) for p, file in files.items()}
    assert signal_to_noise(exact, found["fp32"]) > EXACT
    loss = signal_to_noise(exact, simulated)
    assert signal_to_noise(exact, found["int8"]) > loss - CHANCE


def test_a_convolution_holds_integers_and_scales(tmp_path: Path) -> None:
    net, _ = shallow(Policy((ALL,)))
    opened(Policy((ALL,)), tmp_path)
    rows = [line.split() for line in (tmp_path / "net.param").read_text().splitlines()[2:]]
    first = next(row for row in rows if row[0] == "Convolution")
    assert {"0=8", "1=6", "11=6", "3=2", "4=2", "5=1", f"6={8 * 3 * 36}", "8=1"} <= set(first)
    conv, content = net.get_submodule("stem.conv"), (tmp_path / "net.bin").read_bytes()
    scales = conv.weight_quantizer.amax.numpy().ravel() / 127
    wanted = np.clip(np.rint(conv.weight.detach().numpy() / scales[:, None, None, None]), -127, 127)
    flag = struct.pack("<I", 0x000D4B38)
    at = content.index(flag) + len(flag)
    count = wanted.size
    assert np.array_equal(np.frombuffer(content, np.int8, count, at).reshape(wanted.shape), wanted)
    at += count
    bias, found = (np.frombuffer(content, np.float32, 8, place) for place in (at, at + 32))
    assert bias == pytest.approx(conv.bias.detach().numpy())
    assert found == pytest.approx(255 / scales, rel=1e-5)  # the image is 0 to 255
    [read] = struct.unpack_from("<f", content, at + 64)
    assert read == pytest.approx(127 / float(conv.input_quantizer.amax) / 255)


def test_siblings_read_one_blob_of_integers(tmp_path: Path) -> None:
    opened(Policy((ALL,)), tmp_path)
    kinds = [line.split()[0] for line in (tmp_path / "net.param").read_text().splitlines()[2:]]
    assert kinds.count("Convolution") == 9
    assert kinds.count("Quantize") == 8, "cv1 and cv2 of the C3 share theirs"
    assert "Dequantize" not in kinds and "Cast" not in kinds


def test_zero_points_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    made = source("yolov5", policy=Policy((Rule("*", WEIGHT, ASYMMETRIC),)))
    with pytest.raises(
        PolicyError, match=r"zero-point, which ncnn does not run; .*ptq ENGINE=ncnn"
    ):
        get_engine("ncnn").make(made, "int8", tmp_path)
    assert not list(tmp_path.iterdir())
    assert POLICIES.keys() > SYMMETRIC.keys()


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda file: file.write_text("7767517\n1 1\nInput a 0 1 a 0=1\n"), "says nothing of"),
        (lambda file: file.write_text("not a network"), "is no network of yoloq"),
        (lambda file: file.with_suffix(".bin").write_bytes(b"{}"), "its .bin is of another"),
        (lambda file: file.with_suffix(".bin").unlink(), "No such file"),
        (
            lambda file: file.with_suffix(".bin").write_bytes(
                file.with_suffix(".bin").read_bytes()[:-4]
            ),
            "its .bin is not whole",
        ),
        (
            lambda file: file.write_text("\n".join(file.read_text().splitlines()[:9])),
            "ncnn cannot read it",
        ),
    ],
    ids=["of another tool", "no network", "other .bin", "no .bin", "cut .bin", "cut .param"],
)
def test_files_that_yoloq_did_not_write_are_refused(damage, text: str, tmp_path: Path) -> None:
    file = get_engine("ncnn").make(source("yolov5"), "int8", tmp_path)
    damage(file)
    with pytest.raises(EngineError, match=text) as caught:
        get_engine("ncnn").load(file, "int8", "cpu", 1)
    assert "ENGINE=ncnn" in str(caught.value) and "\n" not in str(caught.value)
