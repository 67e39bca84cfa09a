"""`make benchmark`: the engines of a finished run at several batches and streams."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tiny_set import TinySet

from yoloq.__main__ import main
from yoloq.base.errors import EngineError
from yoloq.base.result import StageResult, read_result
from yoloq.measure.latency import Latency
from yoloq.measure.throughput import Throughput
from yoloq.stages.benchmark import BenchmarkConfig
from yoloq.stages.benchmark import stage as benchmark
from yoloq.stages.benchmark.speeds import Speed, takes
from yoloq.stages.benchmark.stage import slow

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def project(tiny: TinySet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project of a run with two engines."""
    folder = tmp_path_factory.mktemp("runs")
    common = ("--runs", "1", "--threads", "1")
    for name in ("onnxruntime", "torch"):
        assert main("engine", tiny.flags(folder, "--engine", name, *common)) == 0
    return folder


def run(project: Path, *flags: str) -> int:
    where = ("--project", str(project), "--name", "run", "--device", "cpu")
    return main("benchmark", [*where, "--runs", "2", "--threads", "2", *flags])


def test_one_table_over_engines_batches_and_streams(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(project, "--batches", "1", "3", "--streams", "1", "2") == 0
    said = capsys.readouterr()
    result = read_result(project / "run" / "benchmark.json")
    assert result is not None and not result.damaged(project / "run")
    rows = {(row["engine"], row["precision"]): row for row in result.notes["speeds"]}
    assert ("onnxruntime", "int8") in rows and ("torch", "fp32") in rows
    assert ("torch", "int8") not in rows, "it is simulated and has no speed"
    row = rows["onnxruntime", "int8"]
    assert list(row["images_s"]) == ["batch 1", "batch 3", "1 stream", "2 streams"]
    assert all(rate > 0 for rate in row["images_s"].values())
    assert row["batches"]["3"]["batch"] == 3 and row["batches"]["3"]["runs"] == 2
    assert row["streams"]["2"]["streams"] == 2
    assert list(rows["torch", "fp32"]["images_s"]) == ["batch 1", "batch 3", "1 stream"]
    assert rows["onnxruntime", "fp32"]["speed_up"] == 1
    lines = [line.split() for line in said.out.splitlines()]
    assert ["onnxruntime", "INT8", "PTQ"] in [words[:3] for words in lines]
    assert "next: make predict NAME=run" in said.err
    header = (project / "run" / "benchmark.md").read_text().splitlines()[0]
    columns = ["ms", "batch 1", "batch 3", "1 stream", "2 streams", "Speed-up"]
    assert header.strip("| ").split(" | ") == ["Engine", "Precision", *columns]


def test_one_engine_as_one_object(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--engine", "onnxruntime", "--batches", "1", "--streams", "1", "3", "--json")
    assert run(project, *flags) == 0
    found = json.loads(capsys.readouterr().out)
    rows = found["notes"]["speeds"]
    assert {row["engine"] for row in rows} == {"onnxruntime"}
    assert all(list(row["streams"]) == ["1"] for row in rows), "there are two threads"


def test_an_engine_that_does_not_run_here_is_left_out_unless_it_was_named(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = benchmark.measure_speeds

    def missing(config: Any, engines: Any, images: Any) -> Any:
        if engines[0].engine.name == "torch":
            raise EngineError("torch-fp32.pt: was built for another machine; build it here")
        return measured(config, engines, images)

    monkeypatch.setattr(benchmark, "measure_speeds", missing)
    assert run(project, "--batches", "1", "--streams", "1") == 0
    warning = "warning: torch is left out: torch-fp32.pt: was built for another machine"
    assert warning in capsys.readouterr().err
    rows = json.loads((project / "run" / "benchmark.json").read_text())["notes"]["speeds"]
    assert {row["engine"] for row in rows} == {"onnxruntime"}
    assert run(project, "--engine", "torch") == 2
    assert "error: torch-fp32.pt: was built" in capsys.readouterr().err


def speed(key: str, alone: float, at_once: float) -> Speed:
    built: Any = SimpleNamespace(
        key=key, title=key.upper(), engine=SimpleNamespace(name="openvino")
    )
    latency = Latency(1, 1, 1, alone, 1, 0, 1, 1)
    return Speed(built, {1: latency}, {2: Throughput(at_once, 2, 1, 1, 1)})


def engine_result(**notes: Any) -> StageResult:
    return StageResult("engine-openvino", "", {}, {}, {}, {}, (), notes=notes)


def test_int8_that_is_not_faster_than_float_is_named_with_what_mends_it() -> None:
    config = BenchmarkConfig(name="mine", streams=(1,))
    floats = [speed("fp32", 10, 20), speed("bf16", 30, 15)]
    assert slow(config, engine_result(), [*floats, speed("int8", 31, 21)]) == []
    [text] = slow(config, engine_result(), [*floats, speed("int8", 31, 20)])
    assert text.startswith("INT8 (openvino) is not faster than float at 2 streams: ")
    assert text.endswith("make engine NAME=mine ENGINE=openvino ARGS=--force")
    noted = {"title": "INT8", "engine": "openvino", "ms": 2.0, "against": "fp32", "against_ms": 1.0}
    noted |= {"layers": {"model.3.conv": 1.0}, "own_ranges": False}
    known = engine_result(slow={"int8": noted})
    [text] = slow(config, known, [*floats, speed("int8", 29, 14)])
    assert " at batch 1, 2 streams: INT8 (openvino) takes 2.00 ms" in text
    assert "it loses most at model.3.conv" in text
    assert slow(config, engine_result(), [speed("int8", 1, 1)]) == []


@pytest.mark.parametrize(
    ("batch", "largest", "count", "want"),
    [(1, 1, 1, True), (1, 1, 4, False), (8, 8, 1, False), (4, 16, 1, True), (4, 16, 17, False)],
)
def test_an_engine_of_a_fixed_batch_is_called_with_that_alone(
    batch: int, largest: int, count: int, want: bool
) -> None:
    limited: Any = SimpleNamespace(batch=batch, largest=largest, dynamic=largest > batch)
    assert takes(limited, count) is want
    anything: Any = SimpleNamespace()
    assert takes(anything, count)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--batches", "0"], "--batches 0: must be numbers from 1"),
        (["--streams", "1", "0"], "--streams 1 0: must be numbers from 1"),
        (["--runs", "0"], "--runs 0"),
        (["--engine", "openvino"], "holds no openvino engine"),
        (["--name", "typo"], "typo: holds no engine (runs that do: run)"),
    ],
)
def test_mistakes(
    flags: list[str],
    words: str,
    project: Path,
    capsys: pytest.CaptureFixture[str],
    the_error: Callable[[], str],
) -> None:
    capsys.readouterr()
    assert run(project, *flags) == 2
    assert words in the_error()
