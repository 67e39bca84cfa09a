"""`make qat` on a tiny set: files, the epoch that is kept, engines, interruption, mistakes."""

import csv
import errno
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_quant import as_input, pictures, signal_to_noise, tiny_model, tiny_quantized
from tiny_set import TinySet, make_tiny_set

from yoloq.__main__ import main
from yoloq.base.own_files import ROOT
from yoloq.engines import get_engine
from yoloq.engines.predictor import ModelInfo
from yoloq.engines.source import Source
from yoloq.models.load import load_model, save_model
from yoloq.models.yolov5.layout import v6_spec
from yoloq.quant.observer import collect
from yoloq.quant.quantized import load_quantized
from yoloq.quant.refine import gptq
from yoloq.stages import fine_tune
from yoloq.stages.fine_tune import epochs as qat_epochs
from yoloq.stages.qat import QatConfig, course
from yoloq.stages.qat import stage as qat
from yoloq.stages.swap import SwapConfig
from yoloq.train.label_loss import LOSSES
from yoloq.train.qat.ranges import forget
from yoloq.train.qat.student import make_student, settled
from yoloq.train.terms.objective import TermSum

pytestmark = pytest.mark.usefixtures("one_thread")

EPOCHS = 4
# two bits leave so little of the network that any training helps
COARSE = ("--weight-bits", "2", "--no-float-head", "--refine", "none")
USUAL = ("--epochs", str(EPOCHS), "--batch-size", "3", "--lr", "1e-3", "--warmup", "0.5")


def run(tiny: TinySet, project: Path, *more: str) -> int:
    return main("qat", tiny.flags(project, *USUAL, *more))


def read(project: Path, stage: str = "qat") -> dict[str, Any]:
    return json.loads((project / "run" / f"{stage}.json").read_text())


def weights(project: Path) -> dict[str, torch.Tensor]:
    return load_quantized(project / "run" / "qat.pt").model.net.state_dict()


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


@pytest.fixture(scope="module", autouse=True)
def one_thread_for_all() -> Iterator[None]:
    """Runs that tests share come before the fixture of a single test: they need the same thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def calibrated(tiny: TinySet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose run is calibrated to two bits."""
    project = tmp_path_factory.mktemp("calibrated")
    assert main("ptq", tiny.flags(project, *COARSE)) == 0
    return project


@pytest.fixture(autouse=True)
def no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes as long as everything else; the first test looks at a picture."""
    monkeypatch.setattr(qat, "draw_curves", lambda file, *more: file.write_bytes(b""))


@pytest.fixture
def start(calibrated: Path, tmp_path: Path) -> Path:
    """A copy of it to work in."""
    shutil.copytree(calibrated / "run", tmp_path / "run")
    return tmp_path


@pytest.fixture(scope="module")
def whole(calibrated: Path, tiny: TinySet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never interrupted."""
    project = tmp_path_factory.mktemp("whole")
    shutil.copytree(calibrated / "run", project / "run")
    assert run(tiny, project) == 0
    return project


def test_files_and_figures(whole: Path) -> None:
    files = {file.name for file in (whole / "run").iterdir()}
    assert {"qat.pt", "qat.json", "qat.csv", "qat.png"} <= files
    assert "qat-state.pt" not in files and not [name for name in files if name[0] == "."]
    assert (whole / "run" / "qat.png").read_bytes().startswith(b"\x89PNG")
    found = read(whole)
    rows = found["notes"]["epochs"]
    assert [row["epoch"] for row in rows] == list(range(EPOCHS + 1))
    for row in rows[1:]:
        assert {"lr", "features", "head", "fidelity", "map50_95", "map50", "seconds"} <= {*row}
    with open(whole / "run" / "qat.csv", encoding="utf-8") as stream:
        table = list(csv.DictReader(stream))
    assert [float(row["fidelity"]) for row in table] == pytest.approx(
        [row["fidelity"] for row in rows], rel=1e-5
    )
    row = found["rows"][0]
    assert (row["name"], row["precision"], row["engine"]) == ("INT8 QAT", "int8", "torch")
    assert row["simulated"] and row["latency_ms"] is None


def test_the_best_epoch_is_kept_and_is_what_was_evaluated(whole: Path) -> None:
    found = read(whole)
    fidelities = [row["fidelity"] for row in found["notes"]["epochs"]]
    best = found["notes"]["best"]
    assert best["epoch"] == int(np.argmax(fidelities)) > 0, "the test needs a run that helps"
    assert best["fidelity"] == max(fidelities) > best["ptq"] == fidelities[0]
    assert found["rows"][0]["fidelity"] == best["fidelity"]


def test_training_that_does_not_help_returns_ptq(
    start: Path, tiny: TinySet, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tiny, start, "--lr", "1e3", "--epochs", "1", "--clip", "1e9") == 0
    found = read(start)
    assert found["notes"]["best"]["epoch"] == 0
    assert "qat.pt holds the PTQ model" in capsys.readouterr().err
    before = load_quantized(start / "run" / "ptq.pt").model.net.state_dict()
    assert same(weights(start), before)
    assert found["rows"][0]["fidelity"] == read(start, "ptq")["rows"][0]["fidelity"]


def test_a_finished_run_is_reused(
    whole: Path, tiny: TinySet, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (whole / "run" / "qat.pt").stat().st_mtime_ns
    assert run(tiny, whole) == 0
    assert "qat.json is up to date" in capsys.readouterr().err
    assert (whole / "run" / "qat.pt").stat().st_mtime_ns == before


def test_a_head_without_a_loss_fails_before_the_work(
    tiny: TinySet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delitem(LOSSES, "anchor")
    assert run(tiny, tmp_path, "--loss", "task") == 2
    assert "error: no loss is known for a head of kind 'anchor'" in capsys.readouterr().err
    assert not (tmp_path / "run" / "baseline.json").exists()


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param(["--loss", "task", "--mosaic", "0.5"], id="task"),
        pytest.param(["--loss", "both", "--temperature", "2", "--optimizer", "sgd"], id="both"),
        pytest.param(["--ranges", "learned", "--dampen", "0.01"], id="learned"),
        pytest.param(
            ["--ranges", "ema", "--bn", "freeze", "--bn-reestimate", "1"], id="ema, bn kept"
        ),
        pytest.param(["--freeze-oscillating", "0.02", "--only", "model.9"], id="only, frozen"),
        pytest.param(["--train-images", "3", "--val-images", "4", "--best", "map"], id="few"),
    ],
)
def test_what_is_saved_is_what_was_evaluated(
    start: Path, tiny: TinySet, flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The figures of the best epoch come again from the file, whatever was trained."""
    seen: list[float] = []
    real = qat_epochs.evaluate

    def watch(setup, net):
        figures = real(setup, net)
        kept = figures["map50_95" if "map" in flags else "fidelity"]
        seen.append(kept)
        # whatever the random figure is, the last epoch counts as the best
        return figures | {"map50_95" if "map" in flags else "fidelity": len(seen)}

    monkeypatch.setattr(qat_epochs, "evaluate", watch)
    assert run(tiny, start, *flags, "--epochs", "2") == 0
    monkeypatch.undo()
    found = read(start)
    assert found["notes"]["best"]["epoch"] == 2 and len(seen) == 3
    if "map" not in flags:
        assert found["rows"][0]["fidelity"] == seen[-1]
    assert not same(weights(start), load_quantized(start / "run" / "ptq.pt").model.net.state_dict())


def test_only_chosen_layers_change(start: Path, tiny: TinySet) -> None:
    assert run(tiny, start, "--only", "model.9", "model.10") == 0
    before = load_quantized(start / "run" / "ptq.pt").model.net.state_dict()
    changed = {
        name for name, value in weights(start).items() if not torch.equal(value, before[name])
    }
    assert changed and {".".join(name.split(".")[:2]) for name in changed} <= {
        "model.9",
        "model.10",
    }


CORRECTED = ("--correct", "4", "--correct-lr", "10")


@pytest.mark.parametrize("epochs", ["0", "2"])
def test_a_correction_goes_on_where_it_was_killed(
    epochs: str, start: Path, tiny: TinySet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--epochs", epochs, *CORRECTED)
    shutil.copytree(start / "run", tmp_path / "other" / "run")
    kill_at(command(tiny, start, *flags), start / "run" / "qat-correct-state.pt", 0.0)
    assert run(tiny, start, *flags) == 0
    assert "qat-correct-state.pt: going on after epoch" in capsys.readouterr().err
    assert run(tiny, tmp_path / "other", *flags) == 0
    assert_same_run(start, tmp_path / "other")
    found, behind = read(start), int(epochs)
    best, rows = found["notes"]["best"], found["notes"]["epochs"]
    assert [row["epoch"] for row in rows] == list(range(behind + 5))
    assert behind or best["epoch"] > 0, "the test needs a correction that helps"
    assert best["epoch"] == int(np.argmax([row["fidelity"] for row in rows]))
    assert best["fidelity"] == rows[best["epoch"]]["fidelity"] == found["notes"]["phases"][1]
    assert found["notes"]["phases"][0] == max(row["fidelity"] for row in rows[: behind + 1])
    assert found["rows"][0]["fidelity"] == pytest.approx(best["fidelity"], abs=0.01), "folded"
    assert not list((start / "run").glob("qat*state*"))


def test_a_correction_of_layers_in_float_is_refused_before_training(
    tiny: TinySet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--only", "model.24", "--correct", "1")  # the head is in float by default
    assert run(tiny, tmp_path, *flags) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "--only model.24: names no quantized layer that --correct could correct" in error
    assert not list((tmp_path / "run").glob("qat*"))


def test_a_correction_that_does_not_help_is_not_kept(start: Path, tiny: TinySet) -> None:
    assert run(tiny, start, "--epochs", "0", "--correct", "1", "--correct-lr", "1e6") == 0
    assert read(start)["notes"]["best"]["epoch"] == 0
    before = load_quantized(start / "run" / "ptq.pt").model.net.state_dict()
    assert same(weights(start), before)


@pytest.mark.parametrize("name", ["openvino", "onnxruntime", "torch"])
def test_every_engine_runs_the_trained_model(name: str, tmp_path: Path) -> None:
    calibrated = tiny_quantized()
    net, x = make_student(calibrated, "learned"), as_input(pictures(3))
    sum(raw.square().sum() for raw in net(x)).backward()
    forget(net)
    with torch.no_grad():
        for parameter in net.parameters():  # a step that changes the outputs, not their size
            step = parameter.grad * parameter.norm() / parameter.grad.norm().clamp(min=1e-9)
            parameter.sub_(0.02 * step)
    plain = settled(net, calibrated)
    groups = [list(members) for members in plain.placement.members.values()]
    trained = replace(plain, outputs=collect(plain.model.net, groups, [x], 3).outputs)
    with torch.inference_mode():
        before, wanted = ([raw.numpy() for raw in n(x)] for n in (calibrated.model.net, net))
    model = tiny_model()
    source = Source(ModelInfo(model.head, model.names, 64), model, trained)
    row = get_engine(name)
    predictor = row.load(row.make(source, "int8", tmp_path), "int8", "cpu", 1)
    found = predictor(pictures(3))
    noise = signal_to_noise(wanted, found)
    assert noise > 15 and noise > signal_to_noise(before, found) + 6


def test_engine_and_report_take_the_better_model(
    whole: Path, tiny: TinySet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(whole / "run", tmp_path / "run")
    short = ("--runs", "1", "--threads", "1", "--precisions", "int8")
    flags = tiny.flags(tmp_path, "--engine", "torch", *short)

    def build(*more: str) -> dict[str, Any]:
        assert main("engine", [*flags, *more]) == 0
        return read(tmp_path, "engine-torch")

    auto = build()
    assert "int8 of qat: fidelity" in capsys.readouterr().err
    assert auto["rows"][-1]["name"] == "INT8 QAT"
    assert auto["rows"][-1]["fidelity"] == read(tmp_path)["rows"][0]["fidelity"]
    assert auto["notes"]["quantized_key"] == read(tmp_path)["key"]
    other = build("--of", "ptq")
    assert other["rows"][-1]["name"] == "INT8 PTQ" and other["key"] != auto["key"]
    build("--of", "qat")
    assert main("report", tiny.flags(tmp_path)) == 0
    lines = (tmp_path / "run" / "report.md").read_text().splitlines()
    assert len([line for line in lines if "| INT8 QAT |" in line]) == 2

    assert main("ptq", tiny.flags(tmp_path)) == 0  # another calibration
    assert main("engine", [*flags, "--of", "qat"]) == 2
    assert "started from another calibration" in capsys.readouterr().err
    assert main("report", tiny.flags(tmp_path)) == 0
    assert "INT8 QAT" not in (tmp_path / "run" / "report.md").read_text()
    assert build()["rows"][-1]["name"] == "INT8 PTQ"


def command(tiny: TinySet, project: Path, *more: str) -> list[str]:
    return [sys.executable, str(ROOT / "scripts" / "qat.py"), *tiny.flags(project, *USUAL, *more)]


def kill_at(command: list[str], state: Path, delay: float) -> None:
    """Start a run and end it without warning, some time after its state was last written."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    before = state.stat().st_mtime_ns if state.exists() else 0
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    while not (state.exists() and state.stat().st_mtime_ns > before):
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.002)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def assert_same_run(project: Path, other: Path) -> None:
    """Two runs went the same way, bit for bit."""
    ours, theirs = read(project), read(other)
    assert ours["notes"]["best"] == theirs["notes"]["best"]
    assert ours["notes"]["best"]["epoch"] > 0, "else nothing trained would be compared"
    for a, b in zip(ours["notes"]["epochs"], theirs["notes"]["epochs"], strict=True):
        assert {**a, "seconds": 0} == {**b, "seconds": 0}
    one, two = (load_quantized(folder / "run" / "qat.pt") for folder in (project, other))
    assert same(one.model.net.state_dict(), two.model.net.state_dict())
    assert one.outputs == two.outputs


def test_a_killed_run_goes_on_bit_identically(
    start: Path, whole: Path, tiny: TinySet, capsys: pytest.CaptureFixture[str]
) -> None:
    for delay in (0.0, 0.05):
        kill_at(command(tiny, start), start / "run" / "qat-state.pt", delay)
        assert not (start / "run" / "qat.json").exists()
    assert run(tiny, start) == 0
    assert "going on after epoch" in capsys.readouterr().err
    assert_same_run(start, whole)


def test_everything_that_has_a_state_survives_a_kill(
    start: Path, tiny: TinySet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--ranges", "learned", "--dampen", "0.01", "--freeze-oscillating", "0.02")
    shutil.copytree(start / "run", tmp_path / "other" / "run")
    kill_at(command(tiny, start, *flags), start / "run" / "qat-state.pt", 0.0)
    assert run(tiny, start, *flags) == 0
    assert "going on after epoch" in capsys.readouterr().err
    assert run(tiny, tmp_path / "other", *flags) == 0
    assert_same_run(start, tmp_path / "other")


def interrupt_after(epochs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real = course.epoch_batches

    def stops(setup, epoch):
        if epoch == epochs:
            raise KeyboardInterrupt
        return real(setup, epoch)

    monkeypatch.setattr(course, "epoch_batches", stops)


def test_another_configuration_is_refused_with_the_difference(
    start: Path, tiny: TinySet, monkeypatch, capsys
) -> None:
    with monkeypatch.context() as patch:
        interrupt_after(2, patch)
        assert run(tiny, start) == 130
    capsys.readouterr()
    assert run(tiny, start, "--lr", "5e-4", "--loss", "both") == 2
    error = capsys.readouterr().err
    assert "(--loss was distill, is both; --lr was 0.001, is 0.0005)" in error
    assert "--force to start anew" in error and error.count("\n") == 1
    left = start / "run" / "qat-correct-state.pt"  # of a correction that was killed
    left.write_bytes(b"")
    assert run(tiny, start, "--lr", "5e-4", "--force") == 0
    assert "going on" not in capsys.readouterr().err
    assert not left.exists()


def test_a_loss_that_is_no_number_names_step_and_layer(
    start: Path, whole: Path, tiny: TinySet, monkeypatch, capsys
) -> None:
    calls = 0
    real = TermSum.__call__

    def breaks(self, batch):
        nonlocal calls
        calls += 1
        if calls == 4:  # two steps an epoch
            self.net.get_submodule("model.3.conv").weight.data[0, 0, 0, 0] = math.nan
        return real(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(TermSum, "__call__", breaks)
        assert run(tiny, start) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "the weights of model.3.conv are not finite in epoch 2, step 2; lower --lr" in error
    assert not (start / "run" / "qat.json").exists()
    assert run(tiny, start) == 0, "the last good epoch was kept"
    assert "going on after epoch 1" in capsys.readouterr().err
    assert same(weights(start), weights(whole))


def test_a_loss_that_grows_beyond_float_is_said(start: Path, tiny: TinySet, capsys) -> None:
    assert run(tiny, start, "--lr", "1e30", "--clip", "1e30") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and "not finite in epoch" in error and "model." in error
    assert "lower --lr" in error


def test_a_full_disk_leaves_the_last_state_whole(
    start: Path, whole: Path, tiny: TinySet, monkeypatch, capsys
) -> None:
    saves = 0
    real = torch.save

    def full(content, file):
        nonlocal saves
        saves += 1
        if saves == 2:
            file.write(b"half of it")
            raise OSError(errno.ENOSPC, "No space left on device")
        real(content, file)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        assert run(tiny, start) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "qat-state.pt: cannot be written (No space left on device)" in error
    assert not [file for file in (start / "run").iterdir() if file.name[0] == "."]
    assert run(tiny, start) == 0
    assert "going on after epoch 1" in capsys.readouterr().err
    assert same(weights(start), weights(whole))


def test_the_teachers_boxes_need_no_labels(tmp_path: Path) -> None:
    trained = []
    for name in ("with", "without"):
        own = make_tiny_set(tmp_path / name / "set", images=4)
        if name == "without":
            shutil.rmtree(tmp_path / name / "set" / "labels" / "train")
        assert main("ptq", own.flags(tmp_path / name, *COARSE)) == 0
        flags = ("--loss", "task", "--labels", "teacher", "--epochs", "1")
        assert run(own, tmp_path / name, *flags) == 0
        rows = read(tmp_path / name)["notes"]["epochs"]
        assert rows[1]["box"] > 0, "the teacher found something"
        trained.append({key: rows[1][key] for key in ("box", "obj", "cls")})
    assert trained[0] == trained[1]


def test_layers_that_join_by_and_by_go_on_where_the_run_was_killed(
    start: Path, tiny: TinySet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--schedule", "front-to-back", "--ranges", "learned", "--best", "map")
    shutil.copytree(start / "run", tmp_path / "other" / "run")
    kill_at(command(tiny, start, *flags), start / "run" / "qat-state.pt", 0.0)
    assert run(tiny, start, *flags) == 0
    assert "going on after epoch" in capsys.readouterr().err
    assert run(tiny, tmp_path / "other", *flags) == 0
    assert_same_run(start, tmp_path / "other")
    joined = [row["joined"] for row in read(start)["notes"]["epochs"][1:]]
    assert joined == sorted(joined) and joined[0] < 1 and joined[2:] == [1, 1]


def test_by_sensitivity_wants_a_sweep_and_reads_it(
    start: Path, tiny: TinySet, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--schedule", "by-sensitivity", "--epochs", "1")
    assert run(tiny, start, *flags) == 2
    error = capsys.readouterr().err
    assert f"--schedule by-sensitivity: {start / 'run'} has no sensitivity.json" in error
    assert "make it with `make sensitivity`" in error and error.count("\n") == 1
    sweep = ("--grain", "block", "--layers", "model.3", "model.5")
    assert main("sensitivity", tiny.flags(start, *sweep)) == 0
    assert run(tiny, start, *flags) == 0
    assert 0 < read(start)["notes"]["epochs"][1]["joined"] <= 1


def test_a_policy_of_several_bits_is_trained_and_saved(
    start: Path,
    tiny: TinySet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(gptq, "repair", lambda block, steps: None)  # it leaves little to train

    def side(bits: int, **more: Any) -> dict[str, Any]:
        return {"bits": bits, "symmetric": True} | more

    def rule(pattern: str, weights: int, activations: int) -> dict[str, Any]:
        weight = side(weights, granularity="channel", narrow=True)
        return {"pattern": pattern, "weight": weight, "activation": side(activations)}

    rules = [rule("*", 8, 8), rule("model.3", 2, 8), rule("model.5", 4, 4), rule("model.7", 6, 16)]
    file = tmp_path / "mixed.json"
    file.write_text(json.dumps({"rules": rules}))
    flags = ("--policy", str(file), "--epochs", "1", "--ranges", "learned")
    assert run(tiny, start, *flags) == 0
    assert f"--policy {file}: running ptq with it first" in capsys.readouterr().err
    net = load_quantized(start / "run" / "qat.pt").model.net
    for name, levels, bits in (("3", 3, (2, 8)), ("5", 15, (4, 4)), ("7", 63, (6, 16))):
        conv = net.get_submodule(f"model.{name}.conv")
        assert (conv.weight_quantizer.spec.bits, conv.input_quantizer.spec.bits) == bits
        with torch.no_grad():
            each = [len(row.unique()) for row in conv.weight_quantizer(conv.weight).flatten(1)]
            assert 2 < max(each) <= levels
            if bits[1] < 8:
                assert len(conv.input_quantizer(torch.linspace(-99, 99, 999)).unique()) == 16
    before = load_quantized(start / "run" / "ptq.pt").model.net.state_dict()
    assert not same(weights(start), before), "the test needs a training that helps"
    assert run(tiny, start, *flags, "--lr", "2e-3") == 0
    assert "running ptq" not in capsys.readouterr().err, "that of this policy is there"


def other_teacher(tiny: TinySet, folder: Path, **changes: Any) -> str:
    from yoloq.models.load import new_model

    spec = v6_spec("n", changes.get("nc", 2)) | {"width_multiple": 0.125}
    names = tuple("abc"[: spec["nc"]]) if "nc" in changes else ("dark", "bright")
    if "anchors" in changes:
        spec["anchors"] = [[10, 13, 16, 30]] * 3
    save_model(folder / "teacher.pt", new_model("yolov5", spec, names))
    return str(folder / "teacher.pt")


def fused_checkpoint(tiny: TinySet, folder: Path) -> str:
    save_model(folder / "fused.pt", load_model(tiny.weights))
    return str(folder / "fused.pt")


def emptied(tiny: TinySet, folder: Path) -> str:
    (folder / "none").mkdir()
    file = folder / "other.yaml"
    file.write_text(tiny.data.read_text().replace("images/train", str(folder / "none")))
    return str(file)


MISTAKES = {
    "epochs": (lambda t, p: ["--epochs", "0"], "--epochs 0"),
    "no epochs": (lambda t, p: ["--epochs", "0"], "--epochs 0: must be 1 or more"),
    "correct": (lambda t, p: ["--correct", "-1"], "--correct -1: must be 0 or more"),
    "lr": (lambda t, p: ["--lr", "-1"], "--lr -1"),
    "hsv": (lambda t, p: ["--hsv", "0.1"], "--hsv 0.1"),
    "amp": (lambda t, p: ["--amp", "on"], "--amp on: a quantized value is"),
    "mosaic": (lambda t, p: ["--mosaic", "0.5"], "--mosaic: is for the task's loss"),
    "labels": (lambda t, p: ["--labels", "teacher"], "--labels teacher: is for the task's"),
    "score": (lambda t, p: ["--label-score", "1"], "--label-score 1.0: must be between 0 and 1"),
    "focus": (lambda t, p: ["--feature-focus", "2"], "--feature-focus 2.0: must be from 0 to 1"),
    "policy": (lambda t, p: ["--policy", "none.json"], "--policy none.json: cannot be read"),
    "reestimate": (lambda t, p: ["--bn-reestimate", "2"], "add --bn freeze"),
    "only": (lambda t, p: ["--only", "model.2.cv9"], "--only: pattern 'model.2.cv9'"),
    "near names": (lambda t, p: ["--only", "model.2.cv9"], "near names: model.2"),
    "no teacher": (lambda t, p: ["--teacher", str(p / "none.pt")], "none.pt"),
    "classes": (
        lambda t, p: ["--teacher", other_teacher(t, p, nc=3)],
        "teacher.pt: has other classes (3: a, b, c)",
    ),
    "head": (
        lambda t, p: ["--teacher", other_teacher(t, p, anchors=2)],
        "teacher.pt: its head differs",
    ),
    "fused": (
        lambda t, p: ["--bn", "freeze", "--weights", fused_checkpoint(t, p)],
        "fused.pt holds no batch norm",
    ),
    "empty train": (lambda t, p: ["--data", emptied(t, p)], "none"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line_before_any_work(
    case: str, tiny: TinySet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags, named = MISTAKES[case]
    project = tmp_path / "runs"
    assert run(tiny, project, *flags(tiny, tmp_path)) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1 and errors[0].startswith("error: ")
    assert named in errors[0]
    assert not [*project.rglob("*.*")]


def test_an_image_that_cannot_be_read_is_left_out(tmp_path: Path, capsys) -> None:
    own = make_tiny_set(tmp_path / "set", images=4)
    (tmp_path / "set" / "images" / "train" / "1.png").write_bytes(b"no picture")
    assert run(own, tmp_path, "--epochs", "1") == 0
    assert "1 images of `train` cannot be read and are left out, " in capsys.readouterr().err


def test_a_state_left_behind_by_a_finished_run_refuses_nothing(
    start: Path, tiny: TinySet, capsys: pytest.CaptureFixture[str]
) -> None:
    real = course.RunState.remove
    course.RunState.remove = lambda self: None  # type: ignore[method-assign]
    try:
        assert run(tiny, start) == 0
    finally:
        course.RunState.remove = real  # type: ignore[method-assign]
    assert (start / "run" / "qat-state.pt").exists()
    assert run(tiny, start, "--epochs", "1") == 0
    assert "going on" not in capsys.readouterr().err
    assert not (start / "run" / "qat-state.pt").exists()


def test_a_run_that_was_given_up_leaves_the_finished_one_usable(
    whole: Path, tiny: TinySet, tmp_path: Path, monkeypatch, capsys
) -> None:
    shutil.copytree(whole / "run", tmp_path / "run")
    with monkeypatch.context() as patch:
        interrupt_after(1, patch)
        assert run(tiny, tmp_path, "--lr", "1e-5") == 130
    capsys.readouterr()
    assert run(tiny, tmp_path) == 0
    assert "qat.json is up to date" in capsys.readouterr().err


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
@pytest.mark.parametrize("ranges", ["frozen", "learned", "ema"])
def test_on_a_gpu(start: Path, tiny: TinySet, ranges: str) -> None:
    more = ("--bn", "freeze", "--freeze-oscillating", "0.02", "--device", "cuda")
    assert run(tiny, start, "--ranges", ranges, *more) == 0
    found = read(start)
    best = found["notes"]["best"]
    assert found["rows"][0]["fidelity"] == pytest.approx(best["fidelity"], abs=0.02)


def test_images_of_val_are_not_trained_on(tmp_path: Path, capsys) -> None:
    own = make_tiny_set(tmp_path / "set", images=2)
    text = own.data.read_text().replace("images/train", "images/val")
    own.data.write_text(text)
    assert run(own, tmp_path) == 2
    assert "every image of `train` is in `val` too; QAT needs others" in capsys.readouterr().err


def test_a_capped_epoch_takes_some_of_the_images_and_says_so(
    start: Path, tiny: TinySet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fine_tune, "CPU_IMAGES", 4)
    flags = tiny.flags(start, "--epochs", "2", "--batch-size", "2", "--val-images", "2")
    assert main("qat", flags) == 0
    said = "qat: 4 of 6 images of train an epoch, others in each (--epoch-images 0: all)"
    assert said in capsys.readouterr().err
    capped = read(start)
    assert main("qat", [*flags, "--epoch-images", "0"]) == 0, "another result, made anew"
    assert "images of train an epoch" not in capsys.readouterr().err
    assert read(start)["key"] != capped["key"]


@pytest.mark.parametrize(
    ("config", "on_cpu", "on_gpu"),
    [
        pytest.param(QatConfig(), 400, 0, id="auto"),
        pytest.param(QatConfig(epoch_images=40), 40, 40, id="by hand"),
        pytest.param(QatConfig(epoch_images=0), 0, 0, id="all"),
        pytest.param(SwapConfig(), 0, 0, id="swap"),
    ],
)
def test_images_an_epoch_are_capped_on_a_cpu(config: Any, on_cpu: int, on_gpu: int) -> None:
    assert config.images_an_epoch("cpu") == on_cpu
    assert config.images_an_epoch("cuda") == on_gpu
