"""`make table`: every row of one engine, from one run in which all are timed in turn."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_set import TinySet

from yoloq.__main__ import main
from yoloq.base.result import Row, StageResult
from yoloq.engines import get_engine
from yoloq.engines.base import Compiler, Engine
from yoloq.stages.engine import stage as engine
from yoloq.stages.run import as_config
from yoloq.stages.table import TableConfig
from yoloq.stages.table.stage import missing

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def made(tiny: TinySet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project of a table that was made from nothing."""
    project = tmp_path_factory.mktemp("runs")
    pytest.importorskip("openvino")
    # QAT runs first with its defaults, which ten epochs of a tiny set are
    flags = tiny.flags(project, "--engine", "openvino", "--runs", "3", "--threads", "1")
    assert main("table", flags) == 0
    return project


def result(project: Path) -> dict:
    return json.loads((project / "run" / "engine-openvino.json").read_text())


def test_what_is_missing_runs_first(made: Path) -> None:
    files = {file.name for file in (made / "run").iterdir()}
    assert {"baseline.json", "ptq.json", "qat.json", "engine-openvino.json"} <= files
    assert {"table.md", "table.csv", "model-int8.onnx", "model-int8-qat.onnx"} <= files
    assert {"openvino-int8.xml", "openvino-int8-qat.xml", "openvino-int8-qat.bin"} <= files


def test_a_row_for_each_precision_and_each_int8_model(made: Path) -> None:
    floats = [name.upper() for name in get_engine("openvino").precisions("cpu")[:-1]]
    rows = result(made)["rows"]
    assert [row["name"] for row in rows] == [*floats, "INT8 PTQ", "INT8 QAT"]
    assert [row["precision"] for row in rows][-2:] == ["int8", "int8-qat"]
    lines = (made / "run" / "table.md").read_text().splitlines()
    assert [line.split("|")[1].strip() for line in lines if line.startswith("|")] == [
        "Precision",
        "---",
        *[row["name"] for row in rows],
    ]


def test_the_columns_are_those_of_the_rows(made: Path) -> None:
    rows = result(made)["rows"]
    with (made / "run" / "table.csv").open() as stream:
        table = list(csv.DictReader(stream))
    first = rows[0]["fps"]
    for row, line in zip(rows, table, strict=True):
        assert line["name"] == row["name"]
        assert float(line["map50_95"]) == pytest.approx(100 * row["map50_95"])
        assert float(line["delta_low"]) == pytest.approx(100 * row["delta_ci95"][0])
        assert float(line["p50_ms"]) == pytest.approx(row["latency_ms"]["p50"])
        assert float(line["speed_up"]) == pytest.approx(row["fps"] / first)


def test_what_is_not_there_is_explained(made: Path) -> None:
    text = (made / "run" / "table.md").read_text()
    assert "INT8 implicit is missing: openvino does not calibrate by itself" in text
    assert "TensorRT 10.x does" in text


def test_the_two_int8_engines_are_of_the_two_models(made: Path) -> None:
    folder = made / "run"
    ptq, qat = (json.loads((folder / f"{stage}.json").read_text()) for stage in ("ptq", "qat"))
    by_key = {row["precision"]: row for row in result(made)["rows"]}
    same = (folder / "openvino-int8.bin").read_bytes() == (
        folder / "openvino-int8-qat.bin"
    ).read_bytes()
    weights = [(folder / name).read_bytes() for name in ("ptq.pt", "qat.pt")]
    assert not same or qat["rows"][0]["fidelity"] == ptq["rows"][0]["fidelity"]
    assert weights[0] != weights[1]
    assert by_key["int8"]["name"] == "INT8 PTQ" and by_key["int8-qat"]["name"] == "INT8 QAT"


def test_a_second_time_nothing_runs_again(
    made: Path, tiny: TinySet, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (made / "run" / "engine-openvino.json").stat().st_mtime_ns
    flags = tiny.flags(made, "--engine", "openvino", "--runs", "3", "--threads", "1")
    assert main("table", flags) == 0
    captured = capsys.readouterr()
    assert "up to date" in captured.err
    assert "INT8 QAT" in captured.out and "Speed-up" in captured.out
    assert (made / "run" / "engine-openvino.json").stat().st_mtime_ns == before


def test_the_report_has_the_same_rows(made: Path, tiny: TinySet) -> None:
    assert main("report", tiny.flags(made)) == 0
    text = (made / "run" / "report.md").read_text()
    assert text.count("| openvino | INT8 PTQ |") == text.count("| openvino | INT8 QAT |") == 1


def test_the_table_has_all_options_of_an_engine() -> None:
    config = TableConfig(engine="openvino", gate=3)
    assert config.of == "both"
    assert as_config(config, engine.EngineConfig).of == "both"
    assert as_config(config, engine.EngineConfig).gate == 3


@pytest.mark.parametrize(
    ("precisions", "rows", "words"),
    [
        pytest.param(
            ("fp32", "fp16", "int8-implicit", "int8"),
            ("fp32", "fp16", "int8"),
            ["INT8 implicit"],
            id="left out",
        ),
        pytest.param(
            ("fp32", "fp16", "int8"), ("fp32", "fp16", "int8"), ["INT8 implicit"], id="TensorRT 11"
        ),
        pytest.param(
            ("fp32", "int8"), ("fp32", "int8"), ["INT8 implicit", "FP16"], id="no 16 bits"
        ),
        pytest.param(
            ("fp32", "fp16", "int8-implicit", "int8"),
            ("fp32", "fp16", "int8-implicit", "int8"),
            [],
            id="TensorRT 10",
        ),
    ],
)
def test_missing_rows(precisions: tuple[str, ...], rows: tuple[str, ...], words: list[str]) -> None:
    nothing: Any = [None] * 3
    own = Compiler((), *nothing, calibrates=("int8-implicit",))
    row = Engine("x", lambda device: precisions, *nothing[:2], compiler=own)
    made = [Row(name, name, "x", 0.3, 0.5) for name in rows]
    found = StageResult("s", "k", {"device": "auto"}, {}, {}, {}, tuple(made))
    texts = missing(row, found)
    assert [text.split(" is missing")[0] for text in texts] == words


def test_ranges_at_run_time_are_a_row_with_its_reason(tiny: TinySet, tmp_path: Path) -> None:
    flags = ("--engine", "onnxruntime", "--of", "ptq", "--runs", "2", "--threads", "1")
    assert main("table", tiny.flags(tmp_path, *flags, "--dynamic")) == 0
    folder = tmp_path / "run"
    found = json.loads((folder / "engine-onnxruntime.json").read_text())
    rows = {row["precision"]: row for row in found["rows"]}
    assert list(rows) == ["fp32", "int8", "int8-dynamic"]
    dynamic = rows["int8-dynamic"]
    assert dynamic["name"] == "INT8 dynamic" and dynamic["fidelity"] is not None
    assert dynamic["float_layers"] == rows["int8"]["float_layers"]
    assert found["notes"]["int8"]["int8-dynamic"]["not_int8"] == []
    assert "int8-dynamic" in found["notes"]["gate"]
    times = dynamic["latency_ms"]["p50"] / rows["int8"]["latency_ms"]["p50"]
    text = (folder / "table.md").read_text()
    assert f"INT8 dynamic takes {times:.2f} times the time of static INT8" in text
    assert "each image's own extremes" in text


def test_an_engine_without_ranges_at_run_time_says_who_has_them(
    tiny: TinySet, tmp_path: Path, the_error: Callable[[], str]
) -> None:
    assert main("table", tiny.flags(tmp_path, "--engine", "torch", "--dynamic", "--quiet")) == 2
    assert "--dynamic: the torch engine has no such option; it is of onnxruntime" in the_error()
