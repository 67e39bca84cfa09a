"""`make auto`: each step only where the target needs it, and each decision said."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_set import TinySet

from yoloq.__main__ import main
from yoloq.base.config import parse
from yoloq.base.result import StageResult, read_result
from yoloq.stages.auto import AutoConfig
from yoloq.stages.auto import stage as auto
from yoloq.stages.run import as_config
from yoloq.stages.search import SearchConfig, trials
from yoloq.stages.sensitivity import SensitivityConfig
from yoloq.stages.sensitivity import stage as sensitivity

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep of three layers without times."""

    def sweep(config: AutoConfig) -> SensitivityConfig:
        return as_config(config, SensitivityConfig, top=3, screen=4, runs=0)

    monkeypatch.setattr(auto, "sweep_config", sweep)


def run(tiny: TinySet, project: Path, *flags: str) -> int:
    arguments = tiny.flags(project, "--engine", "torch", "--measure", "fidelity", *flags)
    return main("auto", arguments)


def result(project: Path, stage: str) -> StageResult | None:
    return read_result(project / "run" / f"{stage}.json")


def decisions(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("auto: ")]


def test_ptq_within_the_target_goes_straight_to_the_engine(
    tiny: TinySet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tiny, tmp_path, "--max-drop", "0.9") == 0
    said = decisions(capsys)
    assert len(said) == 2
    assert "AP50-95" in said[0] and "0.9 of fidelity" in said[0]
    lost = 1 - result(tmp_path, "ptq").rows[0].fidelity
    assert f"PTQ loses {lost:+.4f} of fidelity" in said[1] and "within the target" in said[1]
    assert result(tmp_path, "sensitivity") is None and result(tmp_path, "qat") is None
    assert result(tmp_path, "engine-torch").rows[-1].name == "INT8 PTQ"
    assert (tmp_path / "run" / "report.md").exists()


@pytest.mark.usefixtures("quick")
def test_a_partial_policy_where_it_reaches_the_target(
    tiny: TinySet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = tiny.flags(tmp_path, "--engine", "torch", "--measure", "fidelity")
    config = parse(AutoConfig, [*arguments, "--max-drop", "1e-9"])
    tried = sensitivity.run(auto.sweep_config(config)).notes["search"]["tried"]
    lost, least = tried[0][1], min(drop for _, drop in tried)
    assert least < lost, "some layer gains"
    capsys.readouterr()
    target = (least + lost) / 2
    assert run(tiny, tmp_path, "--max-drop", str(target)) == 0
    search = result(tmp_path, "sensitivity").notes["search"]
    said = "\n".join(decisions(capsys))
    assert "above the target" in said
    assert search["reached"]
    assert f"keeping {', '.join(search['floats'])} in float" in said
    assert "PTQ with that policy loses" in said
    row = result(tmp_path, "ptq").rows[0]
    assert len(row.float_layers) > 5 and 1 - row.fidelity <= target
    assert result(tmp_path, "engine-torch").rows[-1].float_layers == row.float_layers
    assert result(tmp_path, "qat") is None


@pytest.mark.usefixtures("quick")
def test_training_where_no_policy_does(
    tiny: TinySet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tiny, tmp_path, "--max-drop", "1e-9", "--epochs", "1") == 0
    said = "\n".join(decisions(capsys))
    assert "no policy within the target" in said and "QAT loses" in said
    assert result(tmp_path, "qat") is not None
    assert result(tmp_path, "engine-torch").rows[-1].name in ("INT8 PTQ", "INT8 QAT")


def searching(
    tiny: TinySet, project: Path, patched: pytest.MonkeyPatch, int8_ms: float, *flags: str
) -> int:
    """`make auto` for an engine with a speed; FP32 takes 2 ms, and int8 what is said."""
    patched.setattr(
        auto, "search_config", lambda c: as_config(c, SearchConfig, trials=2, screen=2, runs=1)
    )
    patched.setattr(
        trials.Trials, "_times", lambda self, *_: (int8_ms if self.points else 2.0, 2.0)
    )
    more = ("--engine", "onnxruntime", "--measure", "fidelity", *flags)
    return main("auto", tiny.flags(project, *more))


def test_the_fastest_placement_within_the_target(
    tiny: TinySet, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    assert searching(tiny, tmp_path, monkeypatch, 1.0, "--max-drop", "0.9") == 0
    verdict = result(tmp_path, "search").notes["verdict"]
    assert decisions(capsys)[1] == f"auto: {verdict}" and ": int8, " in verdict
    policy = json.loads((tmp_path / "run" / "search-policy.json").read_text())
    assert result(tmp_path, "engine-onnxruntime").notes["policy"] == policy
    assert result(tmp_path, "qat") is None


def test_no_training_where_float_is_the_faster_one(
    tiny: TinySet, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    assert searching(tiny, tmp_path, monkeypatch, 3.0, "--max-drop", "0.9") == 0
    assert "fp32, no int8 engine that was tried" in decisions(capsys)[1]
    assert result(tmp_path, "qat") is None
    assert result(tmp_path, "engine-onnxruntime").rows[-1].name == "INT8 PTQ"


def test_training_where_no_int8_is_within_the_target(
    tiny: TinySet, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    flags = ("--max-drop", "1e-9", "--epochs", "1")
    assert searching(tiny, tmp_path, monkeypatch, 1.0, *flags) == 0
    said = "\n".join(decisions(capsys))
    assert "no int8 within the target: training it" in said and "QAT loses" in said
    assert result(tmp_path, "qat") is not None


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        pytest.param(["--max-drop", "0"], "--max-drop 0.0", id="target 0"),
        pytest.param(["--max-drop", "2"], "--max-drop 2.0", id="target above 1"),
        pytest.param(["--epochs", "0"], "--epochs 0", id="no epoch"),
        pytest.param(["--engine", "caffe"], "--engine", id="engine"),
    ],
)
def test_mistakes(
    flags: list[str],
    words: str,
    tiny: TinySet,
    tmp_path: Path,
    the_error: Callable[[], str],
) -> None:
    assert run(tiny, tmp_path, *flags) == 2
    assert words in the_error()
    assert not (tmp_path / "run").exists()
