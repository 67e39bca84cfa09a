"""`make predict`: pictures, labels and documents of any engine of a run."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from films import write_film
from tiny_set import TinySet

from yoloq.__main__ import main
from yoloq.base.result import StageResult, read_result
from yoloq.engines import engine_row
from yoloq.measure.detector import Detector
from yoloq.stages.predict import look

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def project(tiny: TinySet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project of a run with two engines."""
    folder = tmp_path_factory.mktemp("runs")
    common = ("--runs", "1", "--threads", "1")
    for name in ("onnxruntime", "torch"):
        assert main("engine", tiny.flags(folder, "--engine", name, *common)) == 0
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three images, one of which is broken."""
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(1)
    for name, shape in {"a.png": (64, 64, 3), "sub/b.png": (40, 80, 3)}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(folder / name), random.integers(0, 256, shape, np.uint8))
    (folder / "c.jpg").write_bytes(b"no picture")
    return folder


def run(project: Path, source: Path | str, *flags: str) -> int:
    where = ("--project", str(project), "--name", "run", "--threads", "1", "--device", "cpu")
    return main("predict", [*where, "--source", str(source), *flags])


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text())


def test_pictures_labels_and_a_document_of_a_folder(
    project: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(project, photos) == 0
    said = capsys.readouterr()
    made = project / "run" / "predict" / f"{photos.name}-onnxruntime-int8"
    files = {str(file.relative_to(made)) for file in made.rglob("*") if file.is_file()}
    assert files == {
        *("images/a.jpg", "images/sub/b.jpg", "labels/a.txt", "labels/sub/b.txt"),
        *("coco.json", "predict.json"),
    }
    picture = cv2.imread(str(made / "images" / "sub" / "b.jpg"))
    assert picture.shape == (320, 640, 3)
    file = project / "run" / "onnxruntime-int8.onnx"
    detector = Detector(engine_row("onnxruntime").load(file, "int8", "cpu", 1))
    boxes = {name: detector(photos / name) for name in ("a.png", "sub/b.png")}
    document = read(made, "coco.json")
    assert [image["file_name"] for image in document["images"]] == list(boxes)
    assert [kind["name"] for kind in document["categories"]] == ["dark", "bright"]
    scores = [round(box.score, 5) for found in boxes.values() for box in found]
    assert [each["score"] for each in document["annotations"]] == scores and scores
    lines = (made / "labels" / "a.txt").read_text().splitlines()
    assert len(lines) == len(boxes["a.png"]) and all(len(line.split()) == 5 for line in lines)
    assert "2 images in " in said.out and "images/s" in said.out
    broken = f"{photos / 'c.jpg'} (cannot be read as an image)"
    assert f"warning: 1 images are broken and left out: {broken}; mend them" in said.err
    assert f"--compare' SOURCE={photos}\n" in said.err
    assert not list((project / "run" / "predict").glob(".*")), "nothing is left beside"


def test_what_was_found_is_a_result(project: Path, photos: Path) -> None:
    assert run(project, photos / "a.png", "--engine", "torch", "--precision", "fp32") == 0
    made = project / "run" / "predict" / "a-torch-fp32"
    result = read_result(made / "predict.json")
    assert result is not None and not result.damaged(made)
    engine = read_result(project / "run" / "engine-torch.json")
    assert result.weights == engine.weights and result.data["images"] == 1
    notes = result.notes
    assert (notes["engine"], notes["precisions"], notes["streams"]) == ("torch", ["fp32"], 1)
    assert notes["images_s"] > 0 and notes["broken"] == {}
    count = len((made / "labels" / "a.txt").read_text().splitlines())
    header, *_, whole = notes["classes"]
    assert header == ["Class", "FP32", "Pictures"] and whole[1:] == [str(count), "1"]


def test_a_later_prediction_takes_the_place_of_an_earlier_one(project: Path, photos: Path) -> None:
    assert run(project, photos, "--engine", "torch", "--limit", "1", "--save-conf") == 0
    made = project / "run" / "predict" / f"{photos.name}-torch-int8"
    line = (made / "labels" / "a.txt").read_text().splitlines()[0].split()
    assert len(line) == 6 and float(line[5]) >= 0.25
    assert run(project, photos / "sub", "--engine", "torch") == 0
    assert run(project, photos, "--engine", "torch", "--conf", "0.9") == 0
    assert {file.name for file in (made / "labels").rglob("*.txt")} == {"a.txt", "b.txt"}
    scores = [each["score"] for each in read(made, "coco.json")["annotations"]]
    assert all(score >= 0.9 for score in scores)


def test_two_precisions_side_by_side(
    project: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(project, photos / "a.png", "--compare", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["notes"]["precisions"] == ["fp32", "int8"]
    made = project / "run" / "predict" / "a-onnxruntime-fp32-int8"
    files = {str(file.relative_to(made)) for file in made.rglob("*") if file.is_file()}
    assert files == {
        *("images/a.jpg", "labels-fp32/a.txt", "labels-int8/a.txt"),
        *("coco-fp32.json", "coco-int8.json", "predict.json"),
    }
    height, width = cv2.imread(str(made / "images" / "a.jpg")).shape[:2]
    assert width > 2 * 640 and height > 640
    [header, *_, whole] = result["notes"]["classes"]
    assert header == ["Class", "FP32", "INT8 PTQ", "In both", "Pictures"]
    counts = [len(read(made, f"coco-{key}.json")["annotations"]) for key in ("fp32", "int8")]
    assert [int(cell) for cell in whole[1:3]] == counts
    assert 0 < int(whole[3]) <= min(counts)


def test_a_video_becomes_a_film(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    film = write_film(tmp_path / "clip.mp4", 5)
    assert run(project, film) == 0
    assert "5 frames in " in capsys.readouterr().out
    made = project / "run" / "predict" / "clip-onnxruntime-int8"
    capture = cv2.VideoCapture(str(made / "clip.mp4"))
    assert [capture.get(p) for p in (cv2.CAP_PROP_FRAME_COUNT, cv2.CAP_PROP_FPS)] == [5, 10]
    capture.release()
    labels = sorted(file.name for file in (made / "labels").iterdir())
    assert labels == [f"clip_00000{n}.txt" for n in (1, 2, 3, 4, 5)]
    assert not (made / "images").exists()


def test_a_video_that_was_cut_is_said(
    project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    film = write_film(tmp_path / "cut.mp4", 3)
    opened = look.open_album

    def longer(frames: Any, *rest: Any) -> Any:
        object.__setattr__(frames, "total", 9)
        return opened(frames, *rest)

    monkeypatch.setattr(look, "open_album", longer)
    assert run(project, film) == 0
    assert "ends after 3 frames, 6 fewer than it says to have" in capsys.readouterr().err


def test_ctrl_c_keeps_what_was_seen(
    project: Path,
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    add = look.Looked.add

    def interrupted(self: look.Looked, seen: Any) -> None:
        add(self, seen)
        raise KeyboardInterrupt

    monkeypatch.setattr(look.Looked, "add", interrupted)
    assert run(project, photos, "--precision", "fp32") == 0
    made = project / "run" / "predict" / f"{photos.name}-onnxruntime-fp32"
    assert len(read(made, "coco.json")["images"]) == 1
    assert "stopped after 1 images; what was seen is kept" in capsys.readouterr().err


def test_what_a_killed_prediction_left_goes(project: Path, photos: Path) -> None:
    folder = project / "run" / "predict"
    left = folder / f".predict-{'0' * 32}"
    (left / "a-onnxruntime-int8" / "labels").mkdir(parents=True)
    os.utime(left, (0, 0))
    assert run(project, photos / "a.png") == 0
    assert not list(folder.glob(".*"))


def test_any_precision_of_any_engine_is_found(project: Path, photos: Path) -> None:
    precisions = [row.precision for row in read_result(project / "run/engine-torch.json").rows]
    for precision in precisions:
        assert run(project, photos / "a.png", "--precision", precision) == 0
    if "bf16" in precisions:  # ONNX Runtime has none
        assert (project / "run" / "predict" / "a-torch-bf16").is_dir()


def change(project: Path, monkeypatch: pytest.MonkeyPatch, **parts: Any) -> None:
    """Let the result of ONNX Runtime be another one."""
    import yoloq.stages.built as built

    def changed(file: Path) -> StageResult | None:
        result = read_result(file)
        if result is None or result.stage != "engine-onnxruntime":
            return result
        environment = result.environment | parts.get("environment", {})
        notes = result.notes | parts.get("notes", {})
        return replace(result, environment=environment, notes=notes)

    monkeypatch.setattr(built, "read_result", changed)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"environment": {"cpu": "Other 3000"}}, "gated on another machine (Other 3000)"),
        (
            {"environment": {"versions": {"onnxruntime": "1.0.0"}}},
            "its files were built and gated with onnxruntime 1.0.0, here ",
        ),
        ({"notes": {"gate": {}}}, "no gate has held its boxes against its ONNX"),
        ({"notes": {"quantized_key": "x"}}, "its int8 is of an earlier ptq.json"),
    ],
    ids=["machine", "version", "gate", "calibration"],
)
def test_files_that_may_compute_otherwise_are_said(
    parts: dict[str, Any],
    words: str,
    project: Path,
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    change(project, monkeypatch, **parts)
    assert run(project, photos / "a.png") == 0
    warnings = [w for w in capsys.readouterr().err.splitlines() if w.startswith("warning: ")]
    assert any(words in warning for warning in warnings)
    assert all("; make engine WEIGHTS=" in warning for warning in warnings)
    assert all("ENGINE=onnxruntime" in w and "--force" in w for w in warnings)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--precision", "int4"], "--precision int4: the run has onnxruntime fp32, "),
        (["--engine", "openvino"], "holds no openvino engine; make engine NAME=run"),
        (["--precision", "fp32", "--compare"], "--compare: is against fp32"),
        (["--conf", "1.5"], "--conf 1.5"),
        (["--streams", "3"], "--streams 3"),
        (["--source", "nothing"], "nothing: does not exist"),
        (["--source", ""], "make predict SOURCE=photo.jpg"),
    ],
)
def test_mistakes(
    flags: list[str],
    words: str,
    project: Path,
    photos: Path,
    capsys: pytest.CaptureFixture[str],
    the_error: Callable[[], str],
) -> None:
    capsys.readouterr()
    before = sorted((project / "run").rglob("*"))
    assert run(project, photos, *flags) == 2
    assert words in the_error()
    assert sorted((project / "run").rglob("*")) == before


def test_a_folder_without_a_run_names_those_that_have_one(
    project: Path, photos: Path, the_error: Callable[[], str]
) -> None:
    where = ("--project", str(project), "--name", "typo", "--source", str(photos))
    assert main("predict", where) == 2
    error = the_error()
    assert "typo: holds no engine (runs that do: run); make engine " in error
    assert not (project / "typo").exists()


def test_a_changed_file_is_not_run(
    project: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = project / "run" / "torch-int8.pt"
    content = file.read_bytes()
    file.write_bytes(content + b"x")
    try:
        assert run(project, photos, "--engine", "torch") == 2
    finally:
        file.write_bytes(content)
    assert "torch-int8.pt: is missing or was changed; make engine " in capsys.readouterr().err


def test_where_nothing_can_be_read_nothing_is_written(
    project: Path, tmp_path: Path, the_error: Callable[[], str], capsys
) -> None:
    (tmp_path / "x.jpg").write_bytes(b"no picture")
    capsys.readouterr()
    assert run(project, tmp_path, "--quiet") == 2
    assert f"{tmp_path / 'x.jpg'}: cannot be read as an image; none of 1 pictures" in the_error()
    assert not (project / "run" / "predict" / f"{tmp_path.name}-onnxruntime-int8").exists()


def test_a_folder_of_the_user_is_not_replaced(
    project: Path, tmp_path: Path, photos: Path, the_error: Callable[[], str], capsys
) -> None:
    mine = project / "run" / "predict" / "b-onnxruntime-int8"
    mine.mkdir(parents=True)
    capsys.readouterr()
    assert run(project, photos / "sub" / "b.png", "--quiet") == 2
    assert "b-onnxruntime-int8: is no prediction of yoloq; move it away" in the_error()
    assert list(mine.iterdir()) == []


@pytest.mark.parametrize(("conf", "said"), [("0.999999", True), ("0.000001", False)])
def test_that_nothing_is_sure_enough_is_said(
    conf: str, said: bool, project: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(project, photos / "a.png", "--conf", conf) == 0
    assert ("no box is sure enough: ARGS='--conf 0.05'" in capsys.readouterr().out) is said
