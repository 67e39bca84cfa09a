"""What every stage opens: a data set and a model that are held against each other, and reuse."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from reordered_set import overwrite, reordered
from tiny_set import TinySet, make_tiny_set

import yoloq
from yoloq.__main__ import main as run
from yoloq.models.load import load_model, new_model, save_model
from yoloq.models.yolov5.layout import v6_spec

pytestmark = pytest.mark.usefixtures("one_thread")

QAT = ("--epochs", "1", "--loss", "task")


def rows(project: Path, *stages: str) -> list[dict[str, Any]]:
    """The accuracy that each stage found."""
    found = []
    for stage in stages:
        [row] = json.loads((project / "run" / f"{stage}.json").read_text())["rows"]
        found.append({key: row[key] for key in ("map50_95", "map50", "delta", "fidelity")})
    return found


@pytest.fixture(scope="module")
def usual(tiny: TinySet, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What the stages find where the set has the checkpoint's order."""
    project = tmp_path_factory.mktemp("usual")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the tests: sums in another order give other roundings
    assert run("qat", tiny.flags(project, *QAT)) == 0
    torch.set_num_threads(threads)
    found = rows(project, "baseline", "ptq", "qat")
    assert found[0]["map50"] > 0
    return found


@pytest.mark.parametrize("as_json", [False, True], ids=["txt", "json"])
@pytest.mark.parametrize("rename", [str, lambda name: f" {name.upper()}"], ids=["exact", "case"])
def test_the_order_of_the_names_changes_no_figure(
    rename: Any,
    as_json: bool,
    usual: list[dict[str, Any]],
    tiny: TinySet,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Training on labels included: QAT reads those of train."""
    data = reordered(tiny.data, tmp_path / "set", [1, 0], rename, as_json)
    other = replace(tiny, data=data)
    assert run("qat", other.flags(tmp_path, *QAT)) == 0
    for found, wanted in zip(rows(tmp_path, "baseline", "ptq", "qat"), usual, strict=True):
        assert found == pytest.approx(wanted, abs=1e-6)
    said = f"{data}: classes are in another order than in {tiny.weights}: labels are mapped by name"
    assert said in capsys.readouterr().err
    figures = yoloq.evaluate(yoloq.load(tiny.weights), data)
    assert figures.map50_95 == pytest.approx(usual[0]["map50_95"], abs=1e-6)
    assert "labels are mapped by name" in capsys.readouterr().err


def test_other_names_are_a_warning_with_the_pairs(
    usual: list[dict[str, Any]],
    tiny: TinySet,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = reordered(tiny.data, tmp_path / "set", [0, 1], {"dark": "black", "bright": "bright"}.get)
    assert run("baseline", replace(tiny, data=data).flags(tmp_path)) == 0
    assert rows(tmp_path, "baseline") == usual[:1]
    said = f"warning: {data}: class names differ from those of {tiny.weights}: "
    said += "0 'black' is 0 'dark' there; mend `names`"
    assert said in capsys.readouterr().err
    assert run("report", replace(tiny, data=data).flags(tmp_path)) == 0
    assert said.removeprefix("warning: ") in (tmp_path / "run" / "report.md").read_text()


def test_the_check_of_a_set_shows_the_same(
    tiny: TinySet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = reordered(tiny.data, tmp_path / "set", [1, 0])
    assert run("data", ["--data", str(data)]) == 0
    assert "another order" not in capsys.readouterr().out
    assert run("data", ["--data", str(data), "--weights", str(tiny.weights)]) == 0
    assert capsys.readouterr().out.count("classes are in another order than in") == 2
    assert run("data", ["--data", str(data), "--single-cls"]) == 0
    assert "6 boxes of 1 classes" in capsys.readouterr().out


@pytest.fixture(scope="module")
def one_class(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of one class."""
    torch.manual_seed(0)
    model = new_model("yolov5", v6_spec("n", 1) | {"width_multiple": 0.125}, ("item",))
    for head in model.net.detect.m:  # scores that differ, boxes near the anchors
        head.weight.data *= 5
        head.bias.data.zero_()
    file = tmp_path_factory.mktemp("one") / "one.pt"
    save_model(file, model)
    return file


@pytest.mark.parametrize("as_json", [False, True], ids=["txt", "json"])
def test_labels_of_many_classes_for_a_model_of_one(
    as_json: bool,
    one_class: Path,
    tiny: TinySet,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The figures are those of labels that say one class."""
    plain = reordered(tiny.data, tmp_path / "plain", [0, 1])
    for label in (tmp_path / "plain" / "labels").rglob("*.txt"):
        label.write_text("0" + label.read_text()[1:])
    document = yaml.safe_load(plain.read_text()) | {"names": ["anything"]}
    plain.write_text(yaml.safe_dump(document))
    many = reordered(tiny.data, tmp_path / "many", [0, 1], as_json=as_json)
    figures = []
    for name, data, flags in (("a", plain, ()), ("b", many, ("--single-cls",))):
        subject = TinySet(one_class, data)
        assert run("qat", subject.flags(tmp_path / name, *QAT, *flags)) == 0
        figures.append(rows(tmp_path / name, "baseline", "ptq", "qat"))
    for found, wanted in zip(figures[1], figures[0], strict=True):
        assert found == pytest.approx(wanted, abs=1e-6)
    capsys.readouterr()
    assert run("baseline", TinySet(one_class, many).flags(tmp_path / "b")) == 2
    assert "has 2 classes, but" in (error := capsys.readouterr().err) and "--single-cls" in error
    model = yoloq.load(one_class)
    found = yoloq.evaluate(model, many, single_cls=True)
    assert found.map50_95 == pytest.approx(figures[0][0]["map50_95"], abs=1e-6)


def test_training_of_one_class(tiny: TinySet, tmp_path: Path) -> None:
    flags = ["--data", str(tiny.data), "--project", str(tmp_path), "--name", "run"]
    more = ["--epochs", "1", "--imgsz", "64", "--workers", "0", "--device", "cpu", "--single-cls"]
    assert run("train", [*flags, *more]) == 0
    assert load_model(tmp_path / "run" / "train.pt").names == ("item",)


def bmp(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".bmp", pixels)[1].tobytes()


def test_images_of_another_content_are_measured_and_calibrated_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = make_tiny_set(tmp_path / "set", images=2)
    for file in (tmp_path / "set" / "images").rglob("*.png"):
        file.with_suffix(".bmp").write_bytes(bmp(cv2.imread(str(file))))
        file.unlink()
    flags = own.flags(tmp_path, "--images", "2")
    assert run("ptq", flags) == 0
    assert run("ptq", flags) == 0
    assert "ptq.json is up to date" in capsys.readouterr().err
    before = rows(tmp_path, "baseline")
    image = tmp_path / "set" / "images" / "train" / "0.bmp"  # not one that is measured on
    overwrite(image, bmp(np.full((64, 64, 3), 255, np.uint8)))
    assert run("ptq", flags) == 0
    errors = capsys.readouterr().err
    assert "up to date" not in errors and "calibrate: 2 images" in errors
    assert rows(tmp_path, "baseline") == before
    image = tmp_path / "set" / "images" / "val" / "0.bmp"
    overwrite(image, bmp(np.zeros((64, 64, 3), np.uint8)))
    assert run("baseline", own.flags(tmp_path)) == 0
    assert "up to date" not in capsys.readouterr().err


def test_force_collects_the_statistics_anew(
    tiny: TinySet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = tiny.flags(tmp_path, "--images", "2")
    assert run("ptq", flags) == 0
    capsys.readouterr()
    assert run("ptq", [*flags, "--force"]) == 0
    assert "calibrate: 2 images" in capsys.readouterr().err


@pytest.mark.parametrize(
    "stage",
    ["baseline", "ptq", "sensitivity", "diagnose", "qat", "engine", "table", "auto", "train"],
)
def test_nan_in_the_checkpoint_stops_every_stage_by_name(
    stage: str, tiny: TinySet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = torch.load(tiny.weights, weights_only=True)
    content["state_dict"]["model.3.bn.running_var"][2] = float("nan")
    torch.save(content, tmp_path / "bad.pt")
    assert run(stage, tiny.flags(tmp_path / "runs", "--weights", str(tmp_path / "bad.pt"))) == 2
    error = capsys.readouterr().err
    assert f"{tmp_path / 'bad.pt'}: 1 of 32 numbers of 'model.3.bn.running_var' are NaN" in error
    assert not list((tmp_path / "runs").rglob("*.json"))
