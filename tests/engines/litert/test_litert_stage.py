"""`make engine ENGINE=litert` as a whole: int8, and activations of 16 bits, which ONNX has not."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from engine_wheels import need
from tflite_reader import operators
from tiny_set import TinySet

from yoloq.__main__ import main
from yoloq.stages.engine import gate

pytestmark = pytest.mark.usefixtures("one_thread")
FEW = ("--runs", "1", "--threads", "1")


@pytest.fixture(autouse=True)
def _litert() -> None:
    need("litert")


def result(project: Path) -> dict:
    return json.loads((project / "run" / "engine-litert.json").read_text())


def test_int8_is_held_against_its_onnx(
    tiny: TinySet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main("engine", tiny.flags(tmp_path, "--engine", "litert", *FEW)) == 0
    found = result(tmp_path)
    assert [row["precision"] for row in found["rows"]] == ["fp32", "int8"]
    assert found["notes"]["gate"].keys() == {"fp32", "int8"}
    assert found["notes"]["int8"]["int8"]["not_int8"] == []
    assert found["rows"][1]["size_bytes"] < found["rows"][0]["size_bytes"] / 2
    assert "nothing was recorded" not in capsys.readouterr().err


def test_16_bits_are_held_against_their_simulation(
    tiny: TinySet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    the_error: Callable[[], str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main("ptq", tiny.flags(tmp_path, "--engine", "litert", "--activation-bits", "16")) == 0
    flags = tiny.flags(tmp_path, "--engine", "litert", "--precisions", "int8", *FEW)
    assert main("engine", flags) == 0
    content = (tmp_path / "run" / "litert-int8.tflite").read_bytes()
    convolutions = [each for each in operators(content) if each.name == "CONV_2D"]
    kinds = [(each.read[0][0], each.read[1][0]) for each in convolutions]
    assert set(kinds) == {("INT16", "INT8"), ("FLOAT32", "FLOAT32")}
    assert len(result(tmp_path)["notes"]["gate"]["int8"]) == 3, "a level each"
    monkeypatch.setitem(gate.TOLERANCE, "int8", (0.0, -1.0))
    capsys.readouterr()
    assert main("engine", [*flags, "--force", "--quiet"]) == 2
    assert "are not those of its simulation in PyTorch" in the_error()


def test_other_engines_refuse_16_bits(
    tiny: TinySet,
    tmp_path: Path,
    the_error: Callable[[], str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main("ptq", tiny.flags(tmp_path, "--activation-bits", "16")) == 0
    capsys.readouterr()
    flags = tiny.flags(tmp_path, "--engine", "onnxruntime", "--precisions", "int8", *FEW)
    assert main("engine", [*flags, "--quiet"]) == 2
    assert "activations of 16 bits run only on the litert engine" in the_error()
