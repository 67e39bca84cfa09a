"""The diagnosis from the command line, on a tiny set: files, tables, trials, and mistakes."""

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from tiny_set import TinySet, make_tiny_set

from yoloq.__main__ import main
from yoloq.base.files import sha256
from yoloq.base.result import read_result
from yoloq.quant.quantized import load_quantized, save_quantized
from yoloq.stages.diagnose import findings
from yoloq.stages.diagnose import stage as diagnose
from yoloq.stages.diagnose import subject as diagnosing
from yoloq.stages.diagnose.findings import Finding

pytestmark = pytest.mark.usefixtures("one_thread")


def run(flags: list[str]) -> int:
    return main("diagnose", flags)


def read(project: Path) -> dict[str, Any]:
    return json.loads((project / "run" / "diagnose.json").read_text())


@pytest.fixture(scope="module")
def quantized_run(tiny: TinySet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose run has a PTQ model."""
    project = tmp_path_factory.mktemp("runs")
    # its ranges have the least squared error, which is what an SNR shows
    assert main("ptq", tiny.flags(project, "--calibrator", "mse")) == 0
    return project


@pytest.fixture
def project(quantized_run: Path, tmp_path: Path) -> Path:
    """A copy of it to diagnose in."""
    shutil.copytree(quantized_run / "run", tmp_path / "run")
    return tmp_path


def plant(project: Path, layer: str, factor: float) -> None:
    """Multiply the range of an input in `ptq.pt`, as if PTQ had chosen it."""
    folder = project / "run"
    quantized = load_quantized(folder / "ptq.pt")
    quantizer = quantized.model.net.get_submodule(f"{layer}.input_quantizer")
    quantizer.set_range(quantizer.low * factor, quantizer.high * factor)  # type: ignore[operator]
    save_quantized(folder / "ptq.pt", quantized)
    result = json.loads((folder / "ptq.json").read_text())
    result["hashes"]["ptq.pt"] = sha256(folder / "ptq.pt")
    (folder / "ptq.json").write_text(json.dumps(result))


def test_a_diagnosis_runs_what_it_needs_and_writes_tables_and_pictures(
    tiny: TinySet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tiny.flags(tmp_path, "--plots", "2", "--images", "3")) == 0
    printed = capsys.readouterr()
    assert "ptq.json is missing: running ptq first" in printed.err
    assert "The 12 layers with the most error of their own" in printed.out
    assert max(map(len, printed.out.splitlines())) <= 80
    made = read_result(tmp_path / "run" / "ptq.json")
    assert made is not None and made.config["images"] == 128  # not the diagnosis's own 3
    result = read(tmp_path)
    assert result["notes"]["images"] == 3
    layers = [row["layer"] for row in result["notes"]["layers"]]
    assert layers[:3] == ["model.0.conv", "model.1.conv", "model.2.cv1.conv"]
    assert len(layers) == 60
    own = {row["layer"]: row["own"] for row in result["notes"]["layers"]}
    assert own["model.24.m.0"] is None  # in float
    assert own["model.0.conv"]["activation"] > 120  # dB: an image is 8 bits, held exactly
    shown = result["notes"]["histograms"]
    assert len(shown) == 2
    for item in shown:
        assert len(item["edges"]) == len(item["counts"]) + 1 <= 130
        assert sum(item["counts"]) > 0 and item["edges"] == sorted(item["edges"])
        assert {"mse", "max", "percentile", "entropy", "ema"} <= set(item["amax"])
        assert item["used"] in item["amax"]
    folder = tmp_path / "run"
    names = sorted(result["artifacts"].values())
    assert len([name for name in names if name.startswith("diagnose/input-")]) == 2
    assert {"diagnose/errors.png", "diagnose/images.png"} <= set(names)
    for name in names:
        if name.endswith(".png"):
            assert cv2.imread(str(folder / name)) is not None
    assert not list(folder.rglob(".*"))


def test_a_finished_diagnosis_is_shown_again(
    project: Path, tiny: TinySet, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tiny.flags(project, "--plots", "0")) == 0
    first = capsys.readouterr()
    assert run(tiny.flags(project, "--plots", "0")) == 0
    again = capsys.readouterr()
    assert "up to date" in again.err
    assert again.out == first.out


def test_a_planted_range_is_named_and_amax_mends_it_at_once(
    project: Path, tiny: TinySet, capsys: pytest.CaptureFixture[str]
) -> None:
    good = amax(load_quantized(project / "run" / "ptq.pt").model.net, "model.3.conv")
    plant(project, "model.3.conv", 20)
    before = (project / "run" / "ptq.pt").read_bytes()
    assert run(tiny.flags(project, "--plots", "0", "--amax", f"model.3={good}")) == 0
    printed = capsys.readouterr().out
    assert "model.3.conv range too wide" in printed
    assert f"model.3.conv: amax {20 * good:.4g} -> {good:.4g}" in printed
    notes = read(project)["notes"]
    found = [item for item in notes["findings"] if item["kind"] == findings.WIDE]
    assert "model.3.conv" in [item["layer"] for item in found]
    worse, better = notes["trial"]["own_snr"]["model.3.conv"]
    assert better > worse + 20
    assert notes["trial"]["fidelity"][1] > notes["trial"]["fidelity"][0]
    assert (project / "run" / "ptq.pt").read_bytes() == before
    assert "model.3.conv" in [
        row["layer"] for row in diagnose.worst(notes["layers"])[:3]
    ]  # worst by itself


def test_bisection_finds_the_planted_layer(
    project: Path, tiny: TinySet, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(project, "model.3.conv", 200)
    assert run(tiny.flags(project, "--plots", "0", "--bisect")) == 0
    found = read(project)["notes"]["bisect"]
    assert found["culprits"] == ["model.3.conv"]
    assert found["fidelity"] < found["threshold"]
    assert '--keep-float model.3"' in capsys.readouterr().out


def test_a_bisection_of_a_loss_that_is_spread_ends(
    project: Path,
    tiny: TinySet,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(diagnosing, "MAX_TRIALS", 3)
    plant(project, "model.3.conv", 200)
    assert run(tiny.flags(project, "--plots", "0", "--bisect")) == 0
    printed = capsys.readouterr()
    assert printed.err.count("bisect: ") == 3
    assert "Bisection stopped after 3 trials" in printed.out


def test_engines_are_compared(
    project: Path, tiny: TinySet, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--plots", "0", "--against", "openvino-fp32", "torch-fp32", "--layers", "model.3")
    assert run(tiny.flags(project, *flags, "--images", "2")) == 0
    assert "openvino-fp32 against torch-fp32" in capsys.readouterr().out
    [error] = read(project)["notes"]["against"]["errors"]
    assert error["layer"] == "model.3.conv" and error["snr"] > 60
    assert (project / "run" / "diagnose" / "against.png").is_file()


def test_chosen_layers_are_shown_in_forward_order(
    project: Path, tiny: TinySet, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tiny.flags(project, "--plots", "0", "--layers", "model.9", "model.0")) == 0
    printed = capsys.readouterr().out
    shown = [line.split()[0] for line in printed.splitlines() if line.startswith(" model.")]
    assert shown == ["model.0", "model.9.cv1", "model.9.cv2"]


def test_black_calibration_images_are_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = make_tiny_set(tmp_path / "set")
    for file in (tmp_path / "set" / "images" / "train").iterdir():
        cv2.imwrite(str(file), np.zeros((64, 64, 3), np.uint8))
    assert run(own.flags(tmp_path, "--plots", "0")) == 0
    found = read(tmp_path)["notes"]["findings"]
    assert found[0]["kind"] == findings.CALIBRATION
    assert "constant" in found[0]["text"]
    assert "calibration images: they are (nearly) constant" in capsys.readouterr().out


def test_a_policy_with_another_calibrator_is_offered_and_ptq_takes_it(
    project: Path,
    tiny: TinySet,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    kinds = (("model.3.conv", "max"), ("model.5.conv", "mse"))  # mse is what PTQ used
    made = [Finding(layer, findings.WIDE, "", "", calibrator) for layer, calibrator in kinds]
    monkeypatch.setattr(diagnose, "find", lambda figures: made)
    assert run(tiny.flags(project, "--plots", "0")) == 0
    file = project / "run" / "diagnose" / "policy.json"
    assert f"make ptq ARGS='--policy {file}'" in capsys.readouterr().err
    net = load_quantized(project / "run" / "ptq.pt").model.net
    before = [amax(net, layer) for layer, _ in kinds]
    assert main("ptq", tiny.flags(project, "--policy", str(file))) == 0
    net = load_quantized(project / "run" / "ptq.pt").model.net
    after = [amax(net, layer) for layer, _ in kinds]
    assert after[0] > before[0] and after[1] == before[1]


def amax(net: torch.nn.Module, layer: str) -> float:
    return float(net.get_submodule(f"{layer}.input_quantizer").amax)  # type: ignore[arg-type]


def test_pictures_of_an_earlier_diagnosis_go(project: Path, tiny: TinySet) -> None:
    assert run(tiny.flags(project, "--plots", "3")) == 0
    assert run(tiny.flags(project, "--plots", "1")) == 0
    left = sorted(file.name for file in (project / "run" / "diagnose").glob("*.png"))
    assert len([name for name in left if name.startswith("input-")]) == 1


def test_ptq_takes_a_range_by_hand(
    project: Path, tiny: TinySet, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = tiny.flags(project, "--amax", "model.8.cv1=4.2", "model.3.conv=1.5")
    assert main("ptq", flags) == 0
    assert "model.8.cv1.conv, model.8.cv2.conv: amax 4.2 by hand" in capsys.readouterr().err
    net = load_quantized(project / "run" / "ptq.pt").model.net
    assert amax(net, "model.8.cv2.conv") == pytest.approx(4.2)
    assert amax(net, "model.3.conv") == pytest.approx(1.5)


MISTAKES = {
    "no-images": (["--images", "0"], "--images 0: must be 1 to 1000"),
    "many-images": (["--images", "1001"], "--images 1001"),
    "plots": (["--plots", "-1"], "--plots -1"),
    "layer": (["--layers", "model.8.cw1"], "near names: model.8.cv1"),
    "amax-layer": (["--amax", "model.8.cw1=2"], "near names: model.8.cv1"),
    "amax-number": (["--amax", "model.8.cv1=two"], "--amax model.8.cv1=two: must be"),
    "one-engine": (["--against", "openvino-int8"], "--against openvino-int8: must be two engines"),
    "engine": (["--against", "abacus-int8", "torch-int8"], "abacus"),
    "precision": (["--against", "torch-int3", "torch-int8"], "torch-int3: not one of"),
    "of": (["--of", "fp32"], "--of: invalid choice"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line_and_nothing_runs(
    case: str, tiny: TinySet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags, named = MISTAKES[case]
    assert run(tiny.flags(tmp_path / "runs", *flags)) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert named in errors[0]
    assert not [*(tmp_path / "runs").rglob("*.*")]


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--of", "qat"], "holds no QAT result of its PTQ model; run `make qat`"),
        (["--amax", "model.24.m.0=1"], "model.24.m.0: is in float and has no range"),
        (["--amax", "model.8=1"], "model.8: holds"),
    ],
    ids=["no-qat", "float", "several"],
)
def test_mistakes_that_the_ptq_model_shows(
    flags: list[str],
    named: str,
    project: Path,
    tiny: TinySet,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(tiny.flags(project, *flags)) == 2
    assert named in capsys.readouterr().err
    assert not (project / "run" / "diagnose.json").exists()


def test_a_qat_model_is_diagnosed_where_there_is_one(
    project: Path, tiny: TinySet, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = project / "run"
    quantized = load_quantized(folder / "ptq.pt")
    with torch.no_grad():
        quantized.model.net.get_submodule("model.3.conv").weight.mul_(1.01)  # type: ignore[operator,union-attr]
    save_quantized(folder / "qat.pt", quantized)
    result = json.loads((folder / "ptq.json").read_text())
    key = result["key"]
    result |= {"stage": "qat", "key": "another", "artifacts": {"model": "qat.pt"}}
    result["hashes"] = {"qat.pt": sha256(folder / "qat.pt")}
    result["notes"] |= {"quantized": "ptq", "quantized_key": key}
    (folder / "qat.json").write_text(json.dumps(result))
    assert run(tiny.flags(project, "--plots", "0")) == 0
    assert read(project)["notes"]["quantized"] == "qat"
    assert run(tiny.flags(project, "--plots", "0", "--of", "ptq")) == 0
    assert read(project)["notes"]["quantized"] == "ptq"
