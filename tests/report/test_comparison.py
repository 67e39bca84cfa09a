"""Runs against each other: what is compared, in pairs, and what is refused and why."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from report_run import whole_run

from yoloq.report.comparison import comparison, together
from yoloq.report.run_folder import open_run
from yoloq.stages.report.stage import DEFAULTS

Change = Callable[[dict[str, Any]], None]


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    return [whole_run(tmp_path / name) for name in ("a", "b")]


def change(folder: Path, stage: str, how: Change) -> None:
    """Alter a result file."""
    file = folder / f"{stage}.json"
    result = json.loads(file.read_text())
    how(result)
    file.write_text(json.dumps(result))


def change_all(folder: Path, how: Change) -> None:
    """Alter the results of the common table."""
    for stage in ("baseline", "ptq", "qat", "engine-openvino"):
        change(folder, stage, how)


def compared(folders: list[Path]) -> tuple[dict[str, dict[str, Any]], tuple[str, ...]]:
    """The lines of the second run by engine and row, and what was said."""
    made = comparison([open_run(folder, DEFAULTS) for folder in folders])
    lines = {f"{line['engine']} {line['name']}": line for line in made.data}
    assert len(made.table) == len(lines) + 1
    return lines, made.words


def slower(result: dict[str, Any]) -> None:
    for row in result["rows"]:
        row["map50_95"] += 0.005
        row["latency_ms"]["p50"] *= 2


def test_the_difference_has_an_interval_in_pairs(folders: list[Path]) -> None:
    """Both rows were resampled alike, so that a shift of all resamples has no width."""
    change(folders[1], "engine-openvino", slower)
    line = compared(folders)[0]["openvino INT8 PTQ"]
    assert line["run"] == "b"
    assert line["delta"] == pytest.approx(0.005)
    assert line["delta_ci95"] == pytest.approx((0.0, 0.0))  # the records are those of before
    assert line["time_ratio"] == pytest.approx(2.0) and line["size_ratio"] == 1.0


def other_data(result: dict[str, Any]) -> None:
    result["data"] |= {"sha256": "e" * 64, "path": "data/other.yaml"}


def fewer_images(result: dict[str, Any]) -> None:
    result["data"]["images"] = 2


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        (other_data, "other images or labels (data/other.yaml)"),
        (fewer_images, "2 images, not 4 (--limit)"),
    ],
)
def test_accuracy_on_other_images_is_not_compared(
    how: Change, reason: str, folders: list[Path]
) -> None:
    change_all(folders[1], how)
    lines, words = compared(folders)
    assert words[0] == f"b: accuracy is not compared: it was measured on {reason}." or (
        words[0] == f"b: accuracy is not compared: {reason}."
    )
    assert {line["delta"] for line in lines.values()} == {None}
    assert {line["delta_ci95"] for line in lines.values()} == {None}
    assert lines["openvino FP32"]["time_ratio"] == 1.0


def other_cpu(result: dict[str, Any]) -> None:
    result["environment"]["cpu"] = "another"


def more_threads(result: dict[str, Any]) -> None:
    for row in result["rows"]:
        row["latency_ms"]["threads"] = 8


def larger_images(result: dict[str, Any]) -> None:
    result["data"]["imgsz"] = 128


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        (other_cpu, "machine another (avx2), not a processor (avx2)"),
        (more_threads, "threads 8, not 2"),
    ],
)
def test_times_of_another_machine_are_not_compared(
    how: Change, reason: str, folders: list[Path]
) -> None:
    change(folders[1], "engine-openvino", how)
    lines, words = compared(folders)
    assert f"b OpenVINO INT8 PTQ: its times are not compared: {reason}." in words
    assert lines["openvino INT8 PTQ"]["time_ratio"] is None
    assert lines["openvino INT8 PTQ"]["delta"] == 0.0
    assert lines["torch FP32"]["time_ratio"] == 1.0


def test_another_image_size_is_compared_in_accuracy_alone(folders: list[Path]) -> None:
    change_all(folders[1], larger_images)
    lines, words = compared(folders)
    assert lines["openvino FP32"]["delta_ci95"] == (0.0, 0.0)
    assert lines["openvino FP32"]["time_ratio"] is None
    assert any("image size 128, not 64" in said for said in words)


def test_a_row_without_a_record_has_no_interval_and_the_command_is_named(
    folders: list[Path],
) -> None:
    (folders[0] / "ptq-record.npz").unlink()
    lines, words = compared(folders)
    line = lines["torch INT8 PTQ"]
    assert line["delta"] == 0.0 and line["delta_ci95"] is None
    [said] = [said for said in words if said.startswith("b PyTorch INT8 PTQ")]
    assert "an earlier version measured a; `make ptq " in said and "--force" in said


@pytest.mark.parametrize(
    ("how", "reason"),
    [(fewer_images, "2 images, not 4 (--limit)"), (other_cpu, "it ran on another (avx2)")],
)
def test_what_stands_in_one_chart(how: Change, reason: str, folders: list[Path]) -> None:
    change_all(folders[1], how)
    kept, why = together([open_run(folder, DEFAULTS) for folder in folders])
    assert [run.name for run in kept] == ["a"] and why == [f"b is left out: {reason}."]


def test_runs_without_a_common_row(folders: list[Path]) -> None:
    for stage in ("ptq", "qat", "engine-openvino"):
        (folders[1] / f"{stage}.json").unlink()
    change(folders[1], "baseline", lambda result: result["rows"][0].update(precision="bf16"))
    made = comparison([open_run(folder, DEFAULTS) for folder in folders])
    assert made.table == () and made.words[0] == "The runs have no row in common."
