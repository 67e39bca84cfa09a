"""The report shows what the result files say, in points, milliseconds and megabytes."""

import csv
import json
import webbrowser
from dataclasses import replace
from pathlib import Path

import pytest
from report_run import whole_run

from yoloq.base.errors import RunError
from yoloq.base.result import Row, StageResult
from yoloq.stages.report import ReportConfig
from yoloq.stages.report.stage import run

ENVIRONMENT = {"cpu": "a processor", "isa": ["avx2"], "gpu": None}


def write(folder: Path, stage: str, *rows: Row) -> None:
    data = {"images": 5, "imgsz": 64}
    StageResult(stage, "k", {}, ENVIRONMENT, {}, data, rows).write(folder / f"{stage}.json")


def row(precision: str, fps: float | None, batch: int = 1, **more) -> Row:
    p50 = None if fps is None else 1000 * batch / fps
    timing = {"p50": p50, "p99": p50, "batch": batch, "threads": 2, "affinity": [0]}
    latency = None if fps is None else timing | {"warmup": 1, "runs": 3}
    return Row(precision, precision, "openvino", 0.3, 0.5, latency_ms=latency, fps=fps, **more)


def test_speed_up_is_against_the_same_engines_fp32(tmp_path: Path) -> None:
    write(tmp_path / "a", "engine-openvino", row("fp32", 50.0), row("int8", 125.0))
    lines = run(ReportConfig(project=str(tmp_path), name="a"))
    assert [line["speed_up"] for line in lines] == [1.0, 2.5]


def test_speed_up_is_against_the_same_number_of_images(tmp_path: Path) -> None:
    one, many = (row("fp32", 50.0), row("int8", 125.0)), (row("fp32", 80.0, 32),)
    write(tmp_path / "a", "engine-openvino", *one, *many, row("int8", 320.0, 32))
    lines = run(ReportConfig(project=str(tmp_path), name="a"))
    assert [line["speed_up"] for line in lines] == [1.0, 2.5, 1.0, 4.0]
    assert "; batch 1 and 32, 2 threads" in (tmp_path / "a" / "report.md").read_text()


def test_speed_up_is_not_against_the_baseline_of_the_same_engine(tmp_path: Path) -> None:
    write(tmp_path / "a", "baseline", row("fp32", 10.0))
    write(tmp_path / "a", "engine-torch", row("fp32", 20.0), row("bf16", 30.0))
    lines = run(ReportConfig(project=str(tmp_path), name="a"))
    assert [line["speed_up"] for line in lines] == [1.0, 1.0, 1.5]


def test_units_and_the_interval(tmp_path: Path) -> None:
    bits = {"delta": -0.012, "delta_ci95": (-0.02, 0.001), "size_bytes": 2_500_000}
    write(tmp_path / "a", "ptq", row("int8", None, **bits, float_layers=("x", "y")))
    run(ReportConfig(project=str(tmp_path), name="a"))
    text = (tmp_path / "a" / "report.md").read_text()
    for cell in ("| 50.00 |", "| 30.00 |", "| -1.20 |", "| -2.00 to +0.10 |", "| 2.50 |", "| 2 |"):
        assert cell in text
    table = list(csv.DictReader((tmp_path / "a" / "report.csv").open()))
    assert float(table[0]["delta_low"]) == pytest.approx(-2.0)
    html = (tmp_path / "a" / "report.html").read_text()
    assert '<td data-value="-1.2">-1.20</td>' in html


def test_images_a_second_stand_beside_the_latency(tmp_path: Path) -> None:
    rate = {"fps": 106.25, "streams": 2, "images": 50, "rounds": 3, "threads": 2, "affinity": [0]}
    write(tmp_path / "a", "engine-x", row("fp32", 50.0), row("int8", 90.0, throughput=rate))
    lines = run(ReportConfig(project=str(tmp_path), name="a"))
    assert [line["images_s"] for line in lines] == [None, 106.25]
    text = (tmp_path / "a" / "report.md").read_text()
    assert "| Images/s |" in text and "| 106.2 |" in text
    assert "images/s of 50 files, median of 3 rounds, with 2 in the engine at once" in text
    table = list(csv.DictReader((tmp_path / "a" / "report.csv").open()))
    assert [line["images_s"] for line in table] == ["", "106.25"]


@pytest.mark.parametrize(("columns", "shown"), [("80", False), ("200", True)])
def test_a_narrow_terminal_gets_whole_words_and_fewer_columns(
    columns: str,
    shown: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("FORCE_COLOR", "1")  # makes rich believe in a terminal
    write(tmp_path / "a", "engine-torch", row("fp32", 1000.0), row("int8", None, simulated=True))
    run(ReportConfig(project=str(tmp_path), name="a"))
    table = capsys.readouterr().out
    assert "\N{HORIZONTAL ELLIPSIS}" not in table
    assert "Fidelity" in table and ("p99 ms" in table) is shown
    assert "openvino*" in table and "claims no speed" in table


def test_several_runs_are_told_apart(tmp_path: Path) -> None:
    write(tmp_path / "a", "ptq", row("int8", None))
    write(tmp_path / "b", "ptq", row("int8", None))
    lines = run(ReportConfig(runs=(str(tmp_path / "a"), str(tmp_path / "b"))))
    assert [line["run"] for line in lines] == ["a", "b"]
    written = {file.name for file in (tmp_path / "a").glob("comparison.*")}
    assert written == {f"comparison.{kind}" for kind in ("html", "md", "csv", "json")}
    assert not (tmp_path / "a" / "report.html").exists()  # that is of the run alone


def test_runs_are_found_by_name_in_the_project(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name, "ptq", row("int8", None))
    lines = run(ReportConfig(project=str(tmp_path), runs=("a", str(tmp_path / "b"))))
    assert [line["run"] for line in lines] == ["a", "b"]


def test_two_runs_of_one_name_are_refused(tmp_path: Path) -> None:
    for place in ("x", "y"):
        write(tmp_path / place / "a", "ptq", row("int8", None))
    runs = tuple(str(tmp_path / place / "a") for place in ("x", "y"))
    with pytest.raises(RunError, match="--runs: two runs are called a; rename one"):
        run(ReportConfig(runs=runs))
    assert list(tmp_path.glob("x/a/comparison*")) == []


def test_what_was_not_run_is_named_with_its_command(tmp_path: Path) -> None:
    write(tmp_path / "a", "ptq", row("int8", None))
    run(ReportConfig(project=str(tmp_path), name="a"))
    text = (tmp_path / "a" / "report.md").read_text().split("## Not run")[1]
    command = f"make sensitivity NAME=a ARGS='--project {tmp_path}'"
    assert f"- Which layers hurt: layers were not ranked: `{command}`" in text
    data = json.loads((tmp_path / "a" / "report.json").read_text())
    assert data["not_run"][0]["title"] == "Accuracy against latency"
    commands = {item["command"].split()[1] for item in data["not_run"]}
    assert commands == {*("baseline", "engine", "sensitivity", "search", "diagnose", "qat", "swap")}


def test_the_same_content_in_all_forms(tmp_path: Path) -> None:
    folder = whole_run(tmp_path / "a")
    run(ReportConfig(project=str(tmp_path), name="a"))
    data = json.loads((folder / "report.json").read_text())
    text, html = ((folder / f"report.{kind}").read_text() for kind in ("md", "html"))
    assert data["not_run"] == [] and "## Not run" not in text
    assert data["verdicts"][0]["ship"] == ["openvino", "int8"]
    for section in data["sections"].values():
        assert f"## {section['title']}\n" in text and f"<h2>{section['title']}</h2>" in html
    tables = {file.stem for file in (folder / "report").glob("*.csv")}
    assert tables == {
        *("images", "placement", "sensitivity", "search", "errors", "histograms"),
        *("qat", "swap", "environment", "latency"),
    }
    images = data["sections"]["images"]["data"]
    assert (images["lost"], images["found"], images["images"]) == (1, 1, 1)


def test_the_page_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "a", "ptq", row("int8", None))
    shown: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: bool(shown.append(address)))
    run(ReportConfig(project=str(tmp_path), name="a", open=True))
    file = tmp_path / "a" / "report.html"
    assert shown == [file.as_uri()]
    assert f"no browser was found: open {file} in one" in capsys.readouterr().err


def test_a_run_is_printed_as_it_is_called(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = "run[a]", "[bold]b"
    for name in names:
        write(tmp_path / name, "ptq", row("int8", None))
    run(ReportConfig(runs=tuple(str(tmp_path / name) for name in names)))
    table = capsys.readouterr().out
    assert all(name in table for name in names)


def test_text_of_files_is_escaped_in_the_page(tmp_path: Path) -> None:
    write(tmp_path / "a", "ptq", Row("<b>", "int8", "openvino", 0.3, 0.5))
    run(ReportConfig(project=str(tmp_path), name="a"))
    assert "&lt;b&gt;" in (tmp_path / "a" / "report.html").read_text()


def test_an_empty_run_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="nothing-here"):
        run(ReportConfig(project=str(tmp_path), name="nothing-here"))


@pytest.mark.parametrize("clock", ["wall", "gpu"])
def test_a_note_says_which_clock(clock: str, tmp_path: Path) -> None:
    timed = row("fp32", 50.0)
    assert timed.latency_ms is not None
    write(
        tmp_path / "a", "engine-x", replace(timed, latency_ms=timed.latency_ms | {"clock": clock})
    )
    run(ReportConfig(project=str(tmp_path), name="a"))
    text = (tmp_path / "a" / "report.md").read_text()
    assert ("timed runs, between events on the GPU" in text) is (clock == "gpu")
