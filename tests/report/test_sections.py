"""Each section says what the stages found, and what is missing where they did not."""

import json
from pathlib import Path
from typing import Any

import pytest
from report_run import record, whole_run, write_engine

from yoloq.base.result import read_result
from yoloq.report.run_folder import open_run
from yoloq.report.section import Missing, Section
from yoloq.report.sections import SECTIONS
from yoloq.stages.report.stage import DEFAULTS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return whole_run(tmp_path / "run")


def made(folder: Path, name: str) -> Section | Missing:
    part = next(part for part in SECTIONS if part.name == name)
    return part.make(open_run(folder, DEFAULTS))


def section(folder: Path, name: str) -> Section:
    found = made(folder, name)
    assert isinstance(found, Section)
    return found


def missing(folder: Path, name: str) -> Missing:
    found = made(folder, name)
    assert isinstance(found, Missing)
    return found


def change(folder: Path, stage: str, **notes: Any) -> None:
    file = folder / f"{stage}.json"
    result = json.loads(file.read_text())
    result["notes"] |= notes
    file.write_text(json.dumps(result))


def test_no_two_parts_have_one_name() -> None:
    assert len({part.name for part in SECTIONS}) == len(SECTIONS)


TABLES = """
latency     | run | OpenVINO | int8 | 4.00 | 29.90 | 29.30 to 30.40 | yes
latency     | run | OpenVINO | fp32 | 8.00 | 30.00 | 30.00 to 30.00 |
placement   | OpenVINO int8 | model.1.cv2.conv | bf16 | 0.02 | 128 | 24.0 | 24.5 | 0.500 | 0.400
sensitivity | model.0.conv | +0.0200 | +0.0100 to +0.0300 | +0.10 | -0.10 to +0.30 | +0.50 | 0.100 | 0.300 | +0.100
sensitivity | model.1.cv2.conv | - | - | - | - | +0.50 | - | - | -
search      | all in int8 | answer | 4.00 | 4.20 | +2.00 | +1.00 to +3.00 | 0.9800 | 30.00
search      | fp32 | yes | 8.00 | - | +0.00 | +0.00 to +0.00 | 1.0000 | 30.00
errors      | model.0.conv | 40.0 | 0.99900 | 24.5 | 30.0 | 26.0
errors      | model.24.m.0 | 16.0 | 0.99900 | - | - | -
histograms  | model.1.cv1.conv | mse | 2.5 | 4
qat         | 2 | 0.05 | 0.001 | 0.97 | 0.32 | 0.53
images      | 0.png | lost | bear | 0.90 | 0.00 | 5 5 30 30
images      | 0.png | found | bear | 0.90 | 0.00 | 45 45 70 70
environment | cpu | a processor
environment | openvino | 2026.4
"""  # noqa: E501


@pytest.mark.parametrize("line", TABLES.strip().splitlines())
def test_tables(line: str, folder: Path) -> None:
    name, *cells = (part.strip() for part in line.split("|"))
    assert tuple(cells) in section(folder, name).table


def test_what_engines_no_other_beats(folder: Path) -> None:
    """BF16 is as accurate as FP32 and faster."""
    words = section(folder, "latency").words[0]
    assert words.endswith("more accurate than: OpenVINO INT8 PTQ, OpenVINO BF16.")


def test_lost_and_found_are_counted(folder: Path) -> None:
    words = section(folder, "images").words[0]
    assert words.startswith("Of 2 boxes that FP32 scores 0.25 or more, OpenVINO INT8 PTQ lost 1")
    assert "and found 1 that FP32 has not, on 1 of 4 images" in words


def test_an_image_that_is_gone_is_named(folder: Path) -> None:
    (folder / "images" / "0.png").unlink()
    found = section(folder, "images")
    assert not found.figures and len(found.table) == 3
    assert any("0.png is not there any more" in words for words in found.words)


def test_without_records_the_stage_is_named(folder: Path) -> None:
    (folder / "engine-openvino-record.npz").unlink()
    found = missing(folder, "images")
    assert found.command.startswith("make engine ") and "--force" in found.command


def test_records_of_other_images_are_not_compared(folder: Path, tmp_path: Path) -> None:
    result = read_result(folder / "engine-openvino.json")
    assert result is not None
    other = tmp_path / "other"
    other.mkdir()
    record(other, result)  # whose images lie elsewhere
    (other / "engine-openvino-record.npz").replace(folder / "engine-openvino-record.npz")
    assert "looked at different images" in missing(folder, "images").reason


def test_placement_is_counted_by_type(folder: Path) -> None:
    assert section(folder, "placement").words == (
        "OpenVINO int8: 4 convolutions, 2 in int8, 2 in 16 bit.",
    )


def test_without_an_engine_the_plan_is_shown(folder: Path) -> None:
    (folder / "engine-openvino.json").unlink()
    (folder / "qat.json").unlink()
    found = section(folder, "placement")
    assert found.words == ("PyTorch int8 (simulated): 4 convolutions, 3 in int8, 1 in float.",)
    assert found.table[1][2:5] == ("int8", "0.02", "0") and found.table[1][-1] == "-"


def test_results_of_an_earlier_version_name_the_command(folder: Path) -> None:
    (folder / "qat.json").unlink()
    change(folder, "engine-openvino", layers={})
    change(folder, "ptq", layers=[])
    assert missing(folder, "placement").command.startswith("make engine ")
    change(folder, "diagnose", histograms=[])
    assert missing(folder, "histograms").command.startswith("make diagnose ")


def test_any_number_of_calibrators_is_drawn(folder: Path) -> None:
    bounds = {f"calibrator {index}": 1.0 + index / 10 for index in range(9)}
    histogram = {"layer": "x", "edges": [0.0, 1.0, 2.0], "counts": [5, 1]}
    change(folder, "diagnose", histograms=[histogram | {"amax": bounds, "used": "calibrator 3"}])
    [figure] = section(folder, "histograms").figures
    assert figure.drawing.count("<title>calibrator") == 9
    assert "calibrator 3: amax 1.3 (in use)" in figure.drawing


def test_predictions_of_an_earlier_search_are_read(folder: Path) -> None:
    file = folder / "search.json"
    result = json.loads(file.read_text())
    for point in result["notes"]["points"]:
        del point["loss_ci95"], point["predicted_loss"]
        point["predicted"] = [point.pop("predicted_ms"), None]
    file.write_text(json.dumps(result))
    row = section(folder, "search").table[1]
    assert row[:6] == ("all in int8", "answer", "4.00", "4.20", "+2.00", "-")


def test_findings_stand_with_their_advice(folder: Path) -> None:
    words = section(folder, "errors").words
    assert "First layer with an SNR below 20 dB: model.24.m.0." in words
    advice = (
        "model.1.cv1.conv: range too wide: loses 9 dB. Advice: make ptq ARGS='--calibrator mse'."
    )
    assert advice in words


def test_qat_that_did_not_help_says_so(folder: Path) -> None:
    change(folder, "qat", best={"epoch": 0, "fidelity": 0.94, "ptq": 0.94})
    words = section(folder, "qat").words
    assert words[0] == "No epoch has more fidelity than PTQ (0.9400): PTQ is kept."


def test_every_command_that_made_the_run_is_there(folder: Path) -> None:
    lines = section(folder, "repeat").lines
    assert [line.split()[1] for line in lines] == [
        *(
            "baseline",
            "ptq",
            "qat",
            "engine",
            "sensitivity",
            "search",
            "diagnose",
            "swap",
            "report",
        ),
    ]
    assert " ENGINE=openvino" in lines[3] and all(" NAME=run " in line for line in lines)


def test_a_stage_of_other_weights_is_left_out(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = folder / "search.json"
    result = json.loads(file.read_text())
    result["weights"]["sha256"] = "x" * 64
    file.write_text(json.dumps(result))
    assert missing(folder, "search").command.startswith("make search ")
    assert "search.json is of other weights or data: left out" in capsys.readouterr().err


def test_several_engines_have_a_strip_each(folder: Path) -> None:
    write_engine(folder)
    text = (folder / "engine-openvino.json").read_text()
    (folder / "engine-onnxruntime.json").write_text(
        text.replace("engine-openvino", "engine-onnxruntime")
    )
    found = section(folder, "placement")
    assert len(found.figures) == 2 and found.words[0].startswith("ONNX Runtime int8: 4")


def test_a_search_for_bits(folder: Path) -> None:
    common = {"bits": "60 in 4x8", "loss_ci95": [0.05, 0.2], "map50_95": 0.25, "front": True}
    uniform = {"name": "everything in 4x8", "cost": 1.0, "loss": 0.2, "predicted_loss": None}
    mixed = {"name": "50 in 4x8, 10 in 8x8", "cost": 1.2, "loss": 0.1, "predicted_loss": 0.12}
    rows = [
        common | uniform | {"uniform": True, "answer": False},
        common | mixed | {"uniform": False, "answer": True},
    ]
    budget = {"kind": "size", "limit": 1.2e6, "asked": "size=1.2MB", "unit": "MB"}
    change(folder, "search", budget=budget, points=rows, verdict="the best within size=1.2MB: x")
    found = section(folder, "search")
    assert found.words[0] == "Asked for the best within size=1.2MB: x."
    assert found.table[0][2] == "packed file, MB"
    cells = ("answer", "1.200", "+10.00", "+5.00 to +20.00", "+12.00", "25.00")
    assert found.table[2] == ("50 in 4x8, 10 in 8x8", *cells)
    assert found.table[1][1] == "yes" and found.table[1][5] == "-"
    [figure] = found.figures
    assert "everything in 4x8" in figure.drawing and "mixed" in figure.drawing
