"""Result files come back as they were written, and others are refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from yoloq.base.errors import RunError
from yoloq.base.result import Row, StageResult, hashes, input_key, read_result


def result() -> StageResult:
    row = Row("INT8", "int8", "openvino", 0.3, 0.5, -0.01, (-0.02, 0.0), float_layers=("model.0",))
    return StageResult("ptq", "key", {"limit": 0}, {}, {"sha256": "w"}, {"sha256": "d"}, (row,))


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "ptq.json"
    result().write(file)
    assert read_result(file) == result()
    assert json.loads(file.read_text())["schema"] == 1


def test_a_missing_result_is_none(tmp_path: Path) -> None:
    assert read_result(tmp_path / "ptq.json") is None


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"schema": 2}', '{"schema": 1, "rows": [{}]}', '{"schema": 1, "rows": [5]}'],
    ids=["empty", "cut", "list", "schema", "row", "number"],
)
def test_a_damaged_result_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "ptq.json"
    file.write_text(text)
    with pytest.raises(RunError, match=r"ptq\.json.*redo the stage"):
        read_result(file)


@pytest.mark.parametrize(
    ("content", "want"), [(b"whole", []), (b"who", ["ptq.pt"]), (None, ["ptq.pt"])]
)
def test_artifacts_that_are_not_those_it_wrote(
    tmp_path: Path, content: bytes | None, want: list[str]
) -> None:
    file = tmp_path / "ptq.pt"
    file.write_bytes(b"whole")
    artifacts = {"model": "ptq.pt"}
    written = replace(result(), artifacts=artifacts, hashes=hashes(tmp_path, artifacts))
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    assert written.damaged(tmp_path) == want


def test_the_key_depends_on_every_part_and_not_on_their_order() -> None:
    assert input_key(a=1, b=2) == input_key(b=2, a=1)
    assert input_key(a=1, b=2) != input_key(a=1, b=3)
