"""`make swap` on a tiny set: files, figures, the choice by gain, interruption, mistakes."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_set import TinySet
from torch import nn

from yoloq.__main__ import main
from yoloq.models.load import load_model
from yoloq.models.swap import silu_layers
from yoloq.stages.swap import stage as swap

USUAL = ("--epochs", "3", "--batch-size", "3", "--lr", "2e-3", "--warmup", "0.5", "--runs", "2")
PLACE = ("--layers", "model.[0-5]", "--engine", "torch")  # which has nothing to time


def run(tiny: TinySet, project: Path, *more: str) -> int:
    return main("swap", tiny.flags(project, *USUAL, *PLACE, *more))


def read(project: Path) -> dict[str, Any]:
    return json.loads((project / "run" / "swap.json").read_text())


def weights(project: Path) -> dict[str, torch.Tensor]:
    return load_model(project / "run" / "swap.pt").net.state_dict()


@pytest.fixture(scope="module", autouse=True)
def one_thread_for_all() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def one_thread_each(one_thread: None) -> None:
    """A run that times the engine torch leaves its threads behind."""


@pytest.fixture(autouse=True)
def no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes as long as everything else."""
    monkeypatch.setattr(swap, "draw_curves", lambda file, *more: file.write_bytes(b""))


@pytest.fixture(scope="module")
def whole(tiny: TinySet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never interrupted."""
    project = tmp_path_factory.mktemp("whole")
    assert run(tiny, project) == 0
    return project


def test_files_and_rows(whole: Path, tiny: TinySet) -> None:
    files = {file.name for file in (whole / "run").iterdir()}
    assert {"swap.pt", "swap.json", "swap.csv", "swap.png", "baseline.json"} <= files
    assert "swap-state.pt" not in files
    found = read(whole)
    rows = {row["name"]: row for row in found["rows"]}
    assert list(rows) == [
        *("Original", "Swapped", "Fitted", "Trained"),
        *("FP32 original", "INT8 original", "FP32 swapped", "INT8 swapped"),
    ]
    original = json.loads((whole / "run" / "baseline.json").read_text())["rows"][0]
    for name in ("Original", "FP32 original"):
        assert rows[name]["map50_95"] == original["map50_95"]
        assert (rows[name]["delta"], rows[name]["fidelity"]) == (0, 1)
    assert rows["Trained"]["fidelity"] == rows["FP32 swapped"]["fidelity"]
    assert [row["latency_ms"] is None for row in found["rows"]] == [True] * 4 + 2 * [False, True]
    assert set(found["notes"]["time_ratio"]) == {"fp32", "int8"}
    assert found["notes"]["time_ratio"]["int8"] is None, "a simulated int8 claims no speed"
    layers = found["notes"]["layers"]
    assert {name.split(".")[1] for name in layers} == set("012345")
    net = load_model(whole / "run" / "swap.pt").net
    assert [n for n, m in net.named_modules() if isinstance(m, nn.Hardswish)] == layers
    assert len(silu_layers(net)) + len(layers) == len(silu_layers(load_model(tiny.weights).net))


def test_the_best_epoch_is_kept_and_is_what_was_measured(whole: Path) -> None:
    found = read(whole)
    fidelities = [row["fidelity"] for row in found["notes"]["epochs"]]
    assert len(fidelities) == 4
    best = found["notes"]["best"]
    assert best == {"epoch": int(np.argmax(fidelities)), "value": max(fidelities)}
    fitted, trained = found["rows"][2:4]
    assert trained["fidelity"] == max(fidelities)
    assert fitted["fidelity"] == fidelities[0]


def test_training_that_does_not_help_returns_the_untrained_network(
    tiny: TinySet, tmp_path: Path, capsys
) -> None:
    assert run(tiny, tmp_path, "--lr", "0.5", "--epochs", "1", "--clip", "1e9", "--fit", "0") == 0
    assert read(tmp_path)["notes"]["best"]["epoch"] == 0
    assert "no epoch was better than the untrained network" in capsys.readouterr().err
    original = load_model(tiny.weights).net.state_dict()
    assert all(torch.equal(value, original[name]) for name, value in weights(tmp_path).items())


def test_a_finished_run_is_reused(whole: Path, tiny: TinySet, capsys) -> None:
    before = (whole / "run" / "swap.pt").stat().st_mtime_ns
    assert run(tiny, whole) == 0
    told = capsys.readouterr()
    assert "swap.json is up to date" in told.err and "Trained" in told.out
    assert (whole / "run" / "swap.pt").stat().st_mtime_ns == before


def test_every_other_stage_takes_the_checkpoint(whole: Path, tiny: TinySet, tmp_path: Path) -> None:
    flags = tiny.flags(tmp_path, "--weights", str(whole / "run" / "swap.pt"))
    assert main("engine", [*flags, "--engine", "onnxruntime", "--runs", "2"]) == 0
    rows = json.loads((tmp_path / "run" / "engine-onnxruntime.json").read_text())["rows"]
    assert rows[0]["map50_95"] == pytest.approx(read(whole)["rows"][3]["map50_95"], abs=1e-3)


def interrupt_after(epochs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real = swap.epoch_batches

    def stops(setup, epoch):
        if epoch == epochs:
            raise KeyboardInterrupt
        return real(setup, epoch)

    monkeypatch.setattr(swap, "epoch_batches", stops)


def test_an_interrupted_run_ends_with_the_same_bits(
    whole: Path, tiny: TinySet, tmp_path: Path, monkeypatch, capsys
) -> None:
    with monkeypatch.context() as patch:
        interrupt_after(2, patch)
        assert run(tiny, tmp_path) == 130
    assert not (tmp_path / "run" / "swap.json").exists()
    capsys.readouterr()
    assert run(tiny, tmp_path, "--lr", "5e-4") == 2
    assert "--lr was 0.002, is 0.0005" in capsys.readouterr().err
    assert run(tiny, tmp_path) == 0
    assert "going on after epoch 2" in capsys.readouterr().err
    one, other = weights(tmp_path), weights(whole)
    assert all(torch.equal(one[name], other[name]) for name in other)


def test_the_state_of_a_finished_run_is_not_in_the_way(
    tiny: TinySet, tmp_path: Path, monkeypatch
) -> None:
    with monkeypatch.context() as patch:  # killed between its result and its end
        patch.setattr("yoloq.train.state.RunState.remove", lambda self: None)
        assert run(tiny, tmp_path, "--epochs", "1") == 0
    assert (tmp_path / "run" / "swap-state.pt").exists()
    assert run(tiny, tmp_path, "--epochs", "1", "--lr", "1e-3") == 0


MISTAKES = {
    "nothing near": (["--layers", "modle.3"], "matches no layer; near names: model.3"),
    "no SiLU": (["--layers", "model.24"], "model.24 has no SiLU to swap"),
    "one of several": (["--layers", "model.3", "model.11"], "--layers model.11: model.11 has no"),
    "auto and names": (["--layers", "auto", "model.3"], "auto stands alone"),
    "share": (["--layers", "auto", "--share", "0"], "--share 0.0: must be above 0"),
    "no profile": (["--layers", "auto", "--engine", "torch"], "torch gives no times by layer"),
    "activation": (["--activation", "mish"], "invalid choice: 'mish'"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_one_line(case: str, whole: Path, tiny: TinySet, tmp_path, capsys) -> None:
    flags, wanted = MISTAKES[case]
    shutil.copytree(whole / "run", tmp_path / "run")  # with the baseline
    capsys.readouterr()
    assert run(tiny, tmp_path, *flags) == 2
    error = capsys.readouterr().err
    assert wanted in error and error.count("\n") == 1


def test_a_network_without_silu_has_nothing_to_swap(
    whole: Path, tiny: TinySet, tmp_path: Path, capsys
) -> None:
    flags = tiny.flags(tmp_path, *USUAL, *PLACE[2:])
    assert main("swap", flags) == 0
    capsys.readouterr()
    again = [*flags, "--weights", str(tmp_path / "run" / "swap.pt")]
    assert main("swap", again) == 2
    assert "has no SiLU, nothing to swap" in capsys.readouterr().err
