"""Int8 that is not faster, in words, with the command that mends it."""

from pathlib import Path
from typing import Any

import pytest

from yoloq.base.result import StageResult
from yoloq.report.remarks import remarks

LAYERS = {"model.3.conv": 2.0, "model.12": 0.25}
SAID = "INT8 PTQ (openvino) takes 6.00 ms, bf16 5.00: int8 is not faster here; "
LOST = "it loses most at model.3.conv (+2.000 ms), model.12 (+0.250 ms); to keep those in float: "
SEARCH = "what is fastest: make search WEIGHTS=a.pt NAME=mine ENGINE=openvino ARGS="


def result(**changes: Any) -> StageResult:
    found = {"title": "INT8 PTQ", "engine": "openvino", "ms": 6.0, "against": "bf16"}
    found |= {"against_ms": 5.0, "layers": LAYERS, "own_ranges": False}
    config = {"weights": "a.pt", "project": "old", "name": "", "force": True, "runs": 50}
    notes = {"slow": {"int8": found | changes}}
    return StageResult("engine-openvino", "", config, {}, {}, {}, (), notes=notes)


@pytest.mark.parametrize(
    ("changes", "want"),
    [
        pytest.param(
            {},
            f"{SAID}{LOST}make ptq WEIGHTS=a.pt NAME=mine ENGINE=openvino "
            "ARGS='--project new --keep-float model.3.conv model.12'; "
            f"{SEARCH}'--project new'",
            id="layers",
        ),
        pytest.param({"layers": {}}, f"{SAID}{SEARCH}'--project new'", id="no profile"),
        pytest.param(
            {"own_ranges": True},
            f"{SAID}{LOST}make engine WEIGHTS=a.pt NAME=mine ENGINE=openvino "
            "ARGS='--project new --fp16-layers model.3.conv model.12'",
            id="ranges of its own",
        ),
    ],
)
def test_the_command_is_for_the_run_as_it_lies_now(changes: dict[str, Any], want: str) -> None:
    assert remarks(Path("new/mine"), result(**changes)) == [want]


def test_nothing_is_said_of_others() -> None:
    assert remarks(Path("mine"), StageResult("ptq", "", {}, {}, {}, {}, ())) == []
