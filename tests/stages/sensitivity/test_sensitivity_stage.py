"""`make sensitivity` from the command line: results, going on after a kill, mistakes of a user."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_quant import USUAL
from tiny_set import TinySet

from yoloq.__main__ import main
from yoloq.base.own_files import ROOT
from yoloq.quant.quantized import load_quantized
from yoloq.stages import run as opened
from yoloq.stages.sensitivity.candidates import find_candidates
from yoloq.stages.sensitivity.sweep import SwitchedNets

pytestmark = pytest.mark.usefixtures("one_thread")

QUICK = ("--runs", "0", "--screen", "4", "--top", "3")


def sweep(tiny: TinySet, project: Path, *flags: str) -> int:
    arguments = tiny.flags(project, *(flags or QUICK))
    return main("sensitivity", arguments)


def read(project: Path) -> dict[str, Any]:
    return json.loads((project / "run" / "sensitivity.json").read_text())


@pytest.fixture(scope="module")
def swept(tiny: TinySet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a sweep of all blocks, times of OpenVINO, and a target."""
    project = tmp_path_factory.mktemp("runs")
    flags = ("--runs", "2", "--engine", "openvino", "--threads", "1", "--screen", "4", "--top", "5")
    assert sweep(tiny, project, *flags, "--max-drop", "0.5", "--measure", "fidelity") == 0
    return project


@pytest.fixture
def project(swept: Path, tmp_path: Path) -> Path:
    """A copy whose sweep has not run."""
    shutil.copytree(swept / "run", tmp_path / "run")
    for file in (tmp_path / "run").glob("sensitivity*"):
        file.unlink()
    return tmp_path


def test_the_result(swept: Path) -> None:
    notes = read(swept)["notes"]
    layers = notes["layers"]
    assert len(layers) == 16
    scored = [layer for layer in layers if layer["fidelity_gain"]]
    assert len(scored) == 5 and layers[:5] == scored
    worth = [layer["worth"] for layer in scored]
    assert worth == sorted(worth, reverse=True)
    for layer in scored:
        delta, low, high = layer["fidelity_gain"]
        assert low <= high and -1 <= delta <= 1
        assert layer["fidelity"] - notes["base"]["fidelity"] == pytest.approx(delta, abs=1e-6)
        # a profile counts whole microseconds, of which a layer of 64 pixels may take none
        assert layer["int8_ms"] >= 0 and layer["float_ms"] >= 0
        lost = max(layer["float_ms"] - layer["int8_ms"], 0.01)
        assert layer["worth"] == pytest.approx(delta / lost)
    assert sum(layer["int8_ms"] for layer in layers) > 0 < sum(x["float_ms"] for x in layers)
    first_pass = [layer["places_gain"] for layer in layers[5:]]
    assert first_pass == sorted(first_pass, reverse=True)
    assert min(layer["places_gain"] for layer in scored) >= max(first_pass)
    assert -1 <= notes["rank_correlation"] <= 1
    assert notes["search"]["reached"] and notes["search"]["drop"] <= 0.5


def test_its_files(swept: Path) -> None:
    files = {file.name for file in (swept / "run").iterdir()}
    wanted = {"jsonl", "md", "png", "json"}
    assert {f"sensitivity.{kind}" for kind in wanted} | {"policy.json", "policy-top4.json"} <= files
    assert not [name for name in files if name.startswith(".")]
    assert "| model." in (swept / "run" / "sensitivity.md").read_text()


def test_ptq_uses_a_proposed_policy(swept: Path, tiny: TinySet, tmp_path: Path) -> None:
    policy = swept / "run" / "policy-top2.json"
    best = [layer["name"] for layer in read(swept)["notes"]["layers"][:2]]
    flags = tiny.flags(tmp_path, "--policy", str(policy))
    assert main("ptq", flags) == 0
    placement = load_quantized(tmp_path / "run" / "ptq.pt").placement
    blocks = {candidate.name for candidate in find_candidates(placement, "block")}
    assert len(blocks) == 18 - 2 and not blocks & set(best)


def test_a_finished_sweep_is_shown_again(
    swept: Path, tiny: TinySet, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--runs", "2", "--engine", "openvino", "--threads", "1", "--screen", "4", "--top", "5")
    assert sweep(tiny, swept, *flags, "--max-drop", "0.5", "--measure", "fidelity") == 0
    shown = capsys.readouterr()
    assert "up to date" in shown.err and "model.2" in shown.out


def test_times_of_another_machine_are_taken_anew(
    swept: Path, tiny: TinySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scores of the journal stay: they are not the machine's."""
    shutil.copytree(swept / "run", tmp_path / "run")
    monkeypatch.setattr(opened, "cpu_model", lambda: "another")
    flags = ("--runs", "2", "--engine", "openvino", "--threads", "1", "--screen", "4", "--top", "5")
    assert sweep(tiny, tmp_path, *flags, "--max-drop", "0.5", "--measure", "fidelity") == 0
    files = [folder / "run" / "sensitivity.jsonl" for folder in (swept, tmp_path)]
    before, after = ([json.loads(line) for line in file.open()] for file in files)
    assert after[: len(before)] == before
    (new,) = after[len(before) :]
    assert new["part"] == "times" and new["taken"]["cpu"] == "another"


@pytest.mark.parametrize("mode", ["leave-one-out", "one-at-a-time"])
def test_without_the_cache_the_journal_is_the_same(mode: str, project: Path, tiny: TinySet) -> None:
    flags = ("--runs", "0", "--screen", "4", "--top", "0", "--mode", mode)
    lines = []
    for cache in ("--cache", "--no-cache", "--memory=0"):
        assert sweep(tiny, project, *flags, "--force", cache) == 0
        text = (project / "run" / "sensitivity.jsonl").read_text()
        lines.append([json.loads(line) for line in text.splitlines()])
    assert len(lines[0]) == 18  # what it is of, 16 blocks, the base
    assert lines[0] == lines[1] == lines[2]


def test_an_interrupted_sweep_goes_on(project: Path, tiny: TinySet) -> None:
    file = project / "run" / "sensitivity.jsonl"
    assert sweep(tiny, project) == 0
    whole, layers = file.read_text(), read(project)["notes"]["layers"]
    lines = whole.splitlines(keepends=True)
    for kept in (0, 1, 5, len(lines) - 3, len(lines) - 1):  # in both passes, and at their ends
        cut = "".join(lines[:kept]) + lines[kept][: len(lines[kept]) // 2]
        file.write_text(cut)
        (project / "run" / "sensitivity.json").unlink()
        assert sweep(tiny, project) == 0
        assert read(project)["notes"]["layers"] == layers
        assert sorted(file.read_text().splitlines()) == sorted(whole.splitlines())


def test_a_killed_sweep_goes_on(project: Path, tiny: TinySet) -> None:
    flags = tiny.flags(project, "--runs", "0", "--top", "0", "--screen", "4")
    command = [sys.executable, str(ROOT / "scripts" / "sensitivity.py"), *flags]
    file = project / "run" / "sensitivity.jsonl"
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (file.exists() and file.read_text().count("\n") > 3):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = file.read_text().splitlines(keepends=True)
    assert 3 < len(done) < 18, "killed in the middle"
    stamp = [line for line in done if line.endswith("\n")]
    assert sweep(tiny, project, *flags[len(tiny.flags(project)) :]) == 0
    after = file.read_text().splitlines(keepends=True)
    assert after[: len(stamp)] == stamp and len(after) == 18
    assert not list((project / "run").glob(".activations-*"))


def test_a_journal_of_another_policy_is_refused(
    project: Path, tiny: TinySet, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep(tiny, project) == 0
    flags = tiny.flags(project, "--keep-float", "model.9")
    assert main("ptq", flags) == 0
    capsys.readouterr()
    assert sweep(tiny, project) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and "journal of other policy" in error
    assert "--force" in error
    assert sweep(tiny, project, *QUICK, "--force") == 0
    assert len(read(project)["notes"]["layers"]) == 15


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        pytest.param(["--layers", "model.99"], ["--layers", "model.99", "near"], id="no layer"),
        pytest.param(["--layers", "model.24"], ["--include"], id="a layer in float"),
        pytest.param(["--include", "modle.24"], ["--include", "modle.24", "near"], id="include"),
        pytest.param(["--max-drop", "0"], ["--max-drop 0.0", "above 0"], id="target 0"),
        pytest.param(["--max-drop", "1.5"], ["--max-drop 1.5", "at most 1"], id="target above 1"),
        pytest.param(["--max-drop", "nan"], ["--max-drop nan"], id="target nan"),
        pytest.param(["--images", "-1"], ["--images -1"], id="images"),
        pytest.param(["--screen", "0"], ["--screen 0"], id="screen"),
        pytest.param(["--top", "-1"], ["--top -1"], id="top"),
        pytest.param(["--memory", "-1"], ["--memory -1"], id="memory"),
        pytest.param(["--max-float", "0"], ["--max-float"], id="max float"),
        pytest.param(["--mode", "both"], ["--mode", "leave-one-out"], id="mode"),
    ],
)
def test_mistakes(
    flags: list[str],
    words: list[str],
    project: Path,
    tiny: TinySet,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = sorted((project / "run").iterdir())
    assert sweep(tiny, project, *QUICK, *flags) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert not [word for word in words if word not in error], error
    assert sorted((project / "run").iterdir()) == before


def test_included_layers_are_swept(project: Path, tiny: TinySet) -> None:
    assert sweep(tiny, project, *QUICK, "--include", "model.0", "model.24") == 0
    names = {layer["name"] for layer in read(project)["notes"]["layers"]}
    assert len(names) == 18 and {"model.0", "model.24"} <= names


def test_a_target_out_of_reach_names_the_next_step(
    project: Path, tiny: TinySet, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--max-drop", "1e-9", "--measure", "fidelity", "--max-float", "0.1")
    assert sweep(tiny, project, *QUICK, *flags) == 0
    assert not read(project)["notes"]["search"]["reached"]
    assert "make qat" in capsys.readouterr().err
    assert not (project / "run" / "policy.json").exists()


def test_a_run_folder_without_ptq_gets_one(tiny: TinySet, tmp_path: Path) -> None:
    assert sweep(tiny, tmp_path) == 0
    assert (tmp_path / "run" / "ptq.json").exists()


def test_reuse_is_exact_on_the_official_network(coco_mini: Path, tmp_path: Path) -> None:
    from yoloq.data.loader import iterate
    from yoloq.models.load import load_model
    from yoloq.quant.calibrate import calibrate
    from yoloq.quant.observer import collect
    from yoloq.quant.policy import conv_layers, default_policy
    from yoloq.quant.quantized import quantize_model
    from yoloq.quant.trace import sibling_groups, trace

    files = sorted((coco_mini / "images" / "dev").iterdir())[:2]
    [batch] = iterate(files, 640, 2)
    images = torch.from_numpy(batch.images).permute(0, 3, 1, 2).float() / 255
    model = load_model(coco_mini / "yolov5n.pt")
    groups = sibling_groups(trace(model.net))
    collected = collect(model.net, groups, [images], 2)
    quantized = quantize_model(model, default_policy(conv_layers(model.net), **USUAL))
    calibrate(model.net, quantized.placement, collected.inputs, "mse")
    variants = SwitchedNets(model.net, quantized.placement, "leave-one-out")  # type: ignore[arg-type]
    plain = variants.frontier([images], 0, 10**9, tmp_path)
    reused = variants.frontier([images], 2, 0, tmp_path)
    for candidate in find_candidates(
        quantized.placement, "block", ["model.2", "model.9", "model.20"]
    ):
        variants.move(reused, candidate.block)
        [expected], [found] = variants.maps(plain, candidate), variants.maps(reused, candidate)
        assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
        assert np.isfinite(found[0].numpy()).all()
