"""`make engine ENGINE=ncnn` as a whole, and what it takes from a calibration for another engine."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from engine_wheels import need
from tiny_set import TinySet

from yoloq.__main__ import main

pytestmark = pytest.mark.usefixtures("one_thread")
FEW = ("--runs", "1", "--threads", "1")


@pytest.fixture(autouse=True)
def _ncnn() -> None:
    need("ncnn")


def test_int8_is_held_against_its_onnx(
    tiny: TinySet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main("engine", tiny.flags(tmp_path, "--engine", "ncnn", *FEW)) == 0
    found = json.loads((tmp_path / "run" / "engine-ncnn.json").read_text())
    assert [row["precision"] for row in found["rows"]] == ["fp32", "int8"]
    assert found["notes"]["gate"].keys() == {"fp32", "int8"}
    assert found["notes"]["int8"]["int8"]["not_int8"] == []
    sizes = [
        sum((tmp_path / "run" / f"ncnn-{each}.{end}").stat().st_size for end in ("param", "bin"))
        for each in ("fp32", "int8")
    ]
    assert [row["size_bytes"] for row in found["rows"]] == sizes
    assert sizes[1] < sizes[0] / 2
    assert "nothing was recorded" not in capsys.readouterr().err


def test_zero_points_of_another_engine_are_one_line(
    tiny: TinySet,
    tmp_path: Path,
    the_error: Callable[[], str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main("ptq", tiny.flags(tmp_path, "--engine", "onnxruntime")) == 0
    capsys.readouterr()
    flags = tiny.flags(tmp_path, "--engine", "ncnn", "--precisions", "int8", *FEW)
    assert main("engine", [*flags, "--quiet"]) == 2
    assert "which ncnn does not run; calibrate for it: make ptq ENGINE=ncnn" in the_error()
