"""How a command ends: the table, the command that comes next, one object for a program."""

import importlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tiny_set import TinySet

from yoloq.__main__ import STAGES, main
from yoloq.base.config import RunConfig, StageConfig
from yoloq.base.result import Row, StageResult
from yoloq.base.say import Voice, speaking
from yoloq.stages.end import command, conclude, on_run, same_run

pytestmark = pytest.mark.usefixtures("one_thread")
BUILT_IN = StageConfig()


@pytest.mark.parametrize(
    ("config", "arguments", "engine", "want"),
    [
        pytest.param(BUILT_IN, "", "auto", "make ptq", id="defaults"),
        pytest.param(
            StageConfig(weights="my nets/a.pt", data="b.yaml", imgsz=320, name="c", device="cpu"),
            "--policy p.json",
            "onnxruntime",
            "make ptq WEIGHTS='my nets/a.pt' DATA=b.yaml IMGSZ=320 NAME=c DEVICE=cpu "
            "ENGINE=onnxruntime ARGS='--policy p.json'",
            id="variables",
        ),
        pytest.param(
            StageConfig(limit=300, single_cls=True, project="out", force=True),
            "",
            "auto",
            "make ptq ARGS='--project out --limit 300 --single-cls'",
            id="the rest through ARGS, but for --force",
        ),
    ],
)
def test_the_command_repeats_what_was_given(
    config: StageConfig, arguments: str, engine: str, want: str
) -> None:
    assert command(config, "ptq", arguments, engine) == want


def test_a_command_on_a_finished_run_needs_its_name_alone() -> None:
    config = RunConfig(weights="a/best.pt", data="b/coco.yaml")
    assert on_run(config, "predict", "x.jpg") == "make predict NAME=best-coco SOURCE=x.jpg"
    config = RunConfig(name="mine", project="out")
    assert on_run(config, "benchmark") == "make benchmark NAME=mine ARGS='--project out'"
    both = on_run(config, "predict", "my photo.jpg", "--compare")
    assert both == ("make predict NAME=mine ARGS='--project out --compare' SOURCE='my photo.jpg'")


def test_the_options_of_a_run_are_those_of_its_result() -> None:
    saved = {"weights": "a.pt", "limit": 9, "force": True, "name": "old", "engine": "openvino"}
    config = same_run(RunConfig(name="new", project="out"), saved)
    assert (config.weights, config.limit, config.force) == ("a.pt", 9, False)
    assert config.folder == Path("out/new")


def stage_module(**more: Any) -> Any:
    return SimpleNamespace(__name__="yoloq.stages.toy.stage", **more)


def result(notes: dict[str, Any] | None = None) -> StageResult:
    rows = (Row("FP32", "fp32", "openvino", 0.25, 0.5), Row("INT8", "int8", "openvino", 0.2, 0.4))
    return StageResult("toy", "key", {}, {}, {}, {}, rows, notes=notes or {})


def test_a_table_then_what_is_said_of_its_rows_then_the_next_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    slow = {"title": "INT8", "engine": "openvino", "ms": 2.0, "against": "fp32", "against_ms": 1.0}
    notes = {"slow": {"int8": slow | {"layers": {}, "own_ranges": False}}}
    module = stage_module(next_step=lambda config, found: f"make {found.stage}")
    conclude(module, RunConfig(name="mine"), result(notes))
    said = capsys.readouterr()
    lines = [line.strip() for line in said.out.splitlines() if line.strip()]
    assert lines[0].startswith("Engine") and "25.00" in lines[2] and "20.00" in lines[3]
    assert lines[-1].startswith("INT8 (openvino) takes 2.00 ms, fp32 1.00: int8 is not faster here")
    assert said.err == "next: make toy\n"


def test_one_object_and_no_table_for_a_program(capsys: pytest.CaptureFixture[str]) -> None:
    with speaking(Voice(json=True)):
        conclude(stage_module(), RunConfig(), result())
        said = capsys.readouterr()
        assert [row["map50_95"] for row in json.loads(said.out)["rows"]] == [0.25, 0.2]
        assert said.err == ""
        conclude(stage_module(), RunConfig(), [{"engine": "openvino"}])
    assert json.loads(capsys.readouterr().out) == {"stage": "toy", "rows": [{"engine": "openvino"}]}


def test_of_several_processes_the_first_speaks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    conclude(stage_module(next_step=lambda *_: "make toy"), RunConfig(), result())
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("name", sorted(STAGES.keys() - {"lint_onnx", "gpu_check"}))
def test_every_stage_names_the_command_that_comes_next(name: str) -> None:
    assert callable(importlib.import_module(f"yoloq.stages.{name}.stage").next_step)


def test_stdout_of_a_stage_is_one_object(
    tiny: TinySet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):  # made, then found
        assert main("ptq", tiny.flags(tmp_path, "--images", "2", "--json")) == 0
        said = capsys.readouterr()
        assert json.loads(said.out)["stage"] == "ptq"
        assert "next: make engine" in said.err
    assert main("report", tiny.flags(tmp_path, "--json", "--quiet")) == 0
    said = capsys.readouterr()
    rows = json.loads(said.out)["rows"]
    assert [row["name"] for row in rows] == ["FP32", "INT8 PTQ"]
    assert "next" not in said.err


def test_a_stage_ends_with_its_table(
    tiny: TinySet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main("baseline", tiny.flags(tmp_path, "--quiet")) == 0
    said = capsys.readouterr()
    assert "AP50-95" in said.out and "FP32" in said.out
    assert [line for line in said.err.splitlines() if not line.startswith("warning: ")] == []
