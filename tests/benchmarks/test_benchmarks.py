"""The benchmarks' own rules: verdicts, tables, the decode that they compare with."""

import json
import subprocess
import sys
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
import torch
from decoded import Decoded, find_boxes
from latency import WARMUP, Timed, time_groups
from record import FOLDER, RESULTS, Column, Figure, Found, Table, describe
from tables import README, fill

from yoloq.geometry.nms import nms
from yoloq.models.load import load_model


@pytest.mark.parametrize(
    ("value", "low", "high", "target", "passed"),
    [
        pytest.param(0.4, None, 0.5, "<= 0.500", True, id="below the most"),
        pytest.param(0.6, None, 0.5, "<= 0.500", False, id="above the most"),
        pytest.param(0.9, 0.9, None, ">= 0.900", True, id="exactly the least"),
        pytest.param(0.8, 0.9, None, ">= 0.900", False, id="below the least"),
        pytest.param(30.5, 30.3, 30.6, "30.300 to 30.600", True, id="within"),
        pytest.param(30.7, 30.3, 30.6, "30.300 to 30.600", False, id="beyond"),
        pytest.param(1.0, None, None, "", None, id="no target"),
        pytest.param(float("nan"), None, 0.5, "<= 0.500", False, id="not a number"),
    ],
)
def test_verdict(
    value: float, low: float | None, high: float | None, target: str, passed: bool | None
) -> None:
    figure = Figure("figure", value, low=low, high=high)
    assert (figure.target, figure.passed) == (target, passed)


def test_a_miss_is_said_on_the_terminal() -> None:
    figure = Figure("ratio", 0.6, "{:.2f}", high=0.5, note="with AMX").to_json()
    assert describe(figure) == "MISS ratio: 0.60 (target <= 0.50) with AMX"


def test_tables_fill_their_markers_and_nothing_else(tmp_path: Path) -> None:
    columns = (Column("Name"), Column("ms", "{:.1f}"), Column("Span", "{0[0]:.0f} to {0[1]:.0f}"))
    found = Found((Figure("f", 2.0, high=1.0),), (Table("T", columns, (("a", None, [1, 2]),)),))
    about = {
        "subject": {
            "weights": {"file": "w.pt", "sha256": "0" * 64},
            "data": {"images": 3},
            "imgsz": 64,
        },
        "environment": {
            "versions": {"torch": "2", "tensorrt": None},
            "cpu": "C",
            "affinity": [0],
            "isa": ["avx2"],
            "gpu": None,
            "python": "3",
        },
        "seconds": 1.2,
    }
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "part.json").write_text(json.dumps(about | found.to_json()))
    text = "before\n<!-- begin set/part -->\nold\n<!-- end -->\nafter"
    filled = fill(text, tmp_path)
    assert filled.startswith("before\n<!-- begin set/part -->\n")
    assert filled.endswith("<!-- end -->\nafter")
    assert "old" not in filled
    assert "| f | 2.000 | <= 1.000 | **miss** |  |" in filled
    assert "| a | - | 1 to 2 |" in filled
    assert fill(filled, tmp_path) == filled


def test_tables_say_what_is_not_measured(tmp_path: Path) -> None:
    filled = fill("<!-- begin set/part -->\n<!-- end -->", tmp_path)
    assert "Not measured yet." in filled


def test_readme_holds_the_results_as_they_are() -> None:
    text = README.read_text(encoding="utf-8")
    assert fill(text, RESULTS) == text, "run python benchmarks/tables.py"


def test_models_are_timed_in_turn() -> None:
    calls: list[str] = []
    group = {name: lambda name=name: lambda: calls.append(name) for name in "ab"}
    medians = time_groups([group], runs=3)
    assert set(medians) == {"a", "b"}
    turns = [name for name, _ in groupby(calls)]
    assert turns == ["a", "b"] * (WARMUP + 1)


def test_ratio_is_taken_within_a_process() -> None:
    timed = Timed(({"a": 1.0, "b": 2.0}, {"a": 30.0, "b": 40.0}, {"a": 6.0, "b": 10.0}), 5)
    assert timed.ratio("a", "b") == (0.6, [0.5, 0.75])
    assert timed.milliseconds("b") == (10.0, [2.0, 40.0])


def test_an_unknown_part_is_named() -> None:
    done = subprocess.run(
        [sys.executable, FOLDER / "run.py", "--only", "sped"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "--only sped" in done.stderr


def test_usual_export_decodes_as_the_original(coco_mini: Path, one_thread: None) -> None:
    model = load_model(coco_mini / "yolov5n.pt")
    with np.load(coco_mini / "reference" / "yolov5n_raw_320.npz") as reference:
        image, expected = reference["image"], reference["decoded"]
    images = torch.from_numpy(image)[None].float() / 255
    with torch.inference_mode():
        rows = Decoded(model.net, model.head, 320)(images)[0].numpy()
        raws = [raw.numpy() for raw in model.net(images)]
    assert np.abs(rows - expected).max() <= 1e-3 * np.abs(expected).max()

    boxes, scores, classes = find_boxes(rows, conf=0.25, iou=0.45)
    found = model.head.decode(raws, 0.25)[0]
    kept = nms(found.boxes, found.scores, found.classes, 0.45)
    order, other = np.argsort(-scores), np.argsort(-found.scores[kept])
    np.testing.assert_array_equal(classes[order], found.classes[kept][other])
    np.testing.assert_allclose(boxes[order], found.boxes[kept][other], atol=0.05)
