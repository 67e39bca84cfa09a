"""`--refine equalize` and `smooth` on a run folder, and the stages that read what they left."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_set import TinySet, settle_batch_norm

import yoloq
from yoloq.__main__ import main
from yoloq.models.load import load_model, new_model, save_model
from yoloq.models.yolov5.layout import v6_spec
from yoloq.quant.moved import equalize
from yoloq.quant.moved.float_twin import as_moved
from yoloq.quant.quantized import load_quantized
from yoloq.quant.refine import gptq
from yoloq.quant.trace import trace

pytestmark = pytest.mark.usefixtures("one_thread")

FLAGS = ("--images", "4", "--weight-bits", "4", "--calibrator", "max")
FLAGS += ("--refine", "smooth", "gptq", "equalize")


@pytest.fixture(scope="module")
def relu(tiny: TinySet, tmp_path_factory: pytest.TempPathFactory) -> TinySet:
    """The tiny set with a network of ReLUs, one channel of which is loud."""
    torch.manual_seed(0)
    spec = v6_spec("n", 2) | {"width_multiple": 0.125, "activation": "nn.ReLU()"}
    model = new_model("yolov5", spec, ("dark", "bright"))
    settle_batch_norm(model.net)
    norm, reader = model.net.model[0].bn, model.net.model[1].conv
    norm.weight.data[2] *= 200
    norm.bias.data[2] *= 200
    reader.weight.data[:, 2] /= 200
    file = tmp_path_factory.mktemp("relu") / "relu.pt"
    save_model(file, model)
    return replace(tiny, weights=file)


@pytest.fixture(scope="module")
def project(relu: TinySet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    assert main("ptq", relu.flags(folder, *FLAGS)) == 0
    return folder


def result(folder: Path, stage: str) -> dict:
    return json.loads((folder / "run" / f"{stage}.json").read_text())


def test_what_is_calibrated_is_the_same_function_with_other_scales(
    relu: TinySet, project: Path
) -> None:
    made = load_quantized(project / "run" / "ptq.pt")
    assert "model.0.conv" in made.moved and "model.24.m.0" not in made.moved
    assert max(made.moved["model.0.conv"]) > 20 * min(made.moved["model.0.conv"])
    plain = load_model(relu.weights)
    other = as_moved(plain, made.moved, trace(plain.net))
    x = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        for ours, theirs in zip(other.net(x), plain.net(x), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def test_moves_gain_fidelity(relu: TinySet, project: Path, tmp_path: Path) -> None:
    plain = [flag for flag in FLAGS if flag not in ("smooth", "equalize")]
    assert main("ptq", relu.flags(tmp_path, *plain)) == 0
    ours, theirs = (result(each, "ptq")["rows"][0]["fidelity"] for each in (project, tmp_path))
    assert ours > theirs


def test_a_repair_that_was_killed_goes_on_behind_the_same_moves(
    relu: TinySet, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repair, seen = gptq.repair, []

    def stopped(block, steps: int) -> None:
        seen.append(block.name)
        if len(seen) == 3:
            raise KeyboardInterrupt
        repair(block, steps)

    monkeypatch.setattr(gptq, "repair", stopped)
    assert main("ptq", relu.flags(tmp_path, *FLAGS)) == 130
    assert main("ptq", relu.flags(tmp_path, *FLAGS)) == 0
    assert len(seen) == len(set(seen)) + 1
    ours, theirs = (load_quantized(each / "run" / "ptq.pt") for each in (tmp_path, project))
    assert ours.moved == theirs.moved
    state = theirs.model.net.state_dict()
    assert all(torch.equal(t, state[name]) for name, t in ours.model.net.state_dict().items())


def test_layers_are_compared_with_a_float_network_of_the_same_scales(
    relu: TinySet, project: Path
) -> None:
    """The same run with the checkpoint's own scales, as it was: the first blocks are all error."""
    assert main("diagnose", relu.flags(project, "--images", "4", "--plots", "0")) == 0
    first = result(project, "diagnose")["notes"]["blocks"][0]
    assert first["snr"] > 10
    flags = ("--runs", "0", "--images", "2", "--top", "1")
    assert main("sensitivity", relu.flags(project, *flags)) == 0


def test_qat_goes_on_from_it_and_refuses_to_keep_batch_norm(
    relu: TinySet, project: Path, the_error
) -> None:
    flags = ("--epochs", "1", "--batch-size", "3")
    assert main("qat", relu.flags(project, *flags, "--bn", "freeze")) == 2
    assert "--bn freeze: the calibration moved scales" in the_error()
    assert main("qat", relu.flags(project, *flags)) == 0
    rows = result(project, "qat")["notes"]["epochs"]
    assert rows[1]["features"] < 1  # a share of the teacher's energy
    assert load_quantized(project / "run" / "qat.pt").moved


def test_statistics_are_those_of_the_moved_network(
    relu: TinySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = ("--images", "2", "--refine")
    assert main("ptq", relu.flags(tmp_path, *few, "none")) == 0
    plain = load_quantized(tmp_path / "run" / "ptq.pt")
    assert main("ptq", relu.flags(tmp_path, *few, "equalize")) == 0
    moved = load_quantized(tmp_path / "run" / "ptq.pt")
    name = "model.1.conv.input_quantizer"
    ranges = [each.model.net.get_submodule(name).high for each in (plain, moved)]
    assert not torch.allclose(*ranges, rtol=0.1)
    assert not plain.moved and moved.moved


def test_the_front_door_moves_scales_too(relu: TinySet) -> None:
    model = yoloq.load(relu.weights)
    images = relu.data.parent / "images" / "train"
    quantized = yoloq.calibrate(model, images, refine="equalize", imgsz=64)
    assert quantized.moved
    assert torch.equal(
        model.net.model[0].conv.weight, load_model(relu.weights).net.model[0].conv.weight
    )


def test_equalize_looks_at_no_image(relu: TinySet, tmp_path: Path, monkeypatch) -> None:
    seen, factors = [], equalize.factors
    monkeypatch.setattr(
        equalize,
        "factors",
        lambda net, ch, batches: seen.append(len(batches)) or factors(net, ch, ()),
    )
    assert main("ptq", relu.flags(tmp_path, "--images", "2", "--refine", "equalize")) == 0
    assert seen == [0]
