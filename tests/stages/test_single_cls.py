"""All stages with `--single-cls` on a model of two classes, each against YOLOv5's rule restated."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from single_cls import average_precision, boxes_of, txt_truth
from tiny_set import TinySet

import yoloq
from yoloq.__main__ import main as run
from yoloq.data.dataset import read_dataset
from yoloq.engines import get_engine
from yoloq.engines.predictor import Predictor
from yoloq.engines.torch import predictor_of
from yoloq.measure.detector import Detector
from yoloq.models.load import load_model, save_model

pytestmark = pytest.mark.usefixtures("one_thread")

ENGINES = ("openvino", "onnxruntime", "torch")
SIZE = 64  # pixels
NEAR = 1e-4  # a batch's float sums may have other bits than an image's


@pytest.fixture(scope="module")
def other(tiny: TinySet, tmp_path_factory: pytest.TempPathFactory) -> TinySet:
    """The tiny model less sure of itself: scores of 1.0 have no order to compare."""
    model = load_model(tiny.weights, fuse=False)
    with torch.no_grad():
        for head in model.net.detect.m:
            head.weight.view(3, 7, -1)[:, 4:] *= 0.1
            head.bias.view(3, 7)[:, 4] = -0.5
    file = tmp_path_factory.mktemp("unsure") / "unsure.pt"
    save_model(file, model)
    return TinySet(file, tiny.data)


def result(folder: Path, stage: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run" / f"{stage}.json").read_text())
    return found


@pytest.fixture(scope="module")
def project(other: TinySet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of all stages."""
    folder = tmp_path_factory.mktemp("single")
    flags = other.flags(folder, "--single-cls")
    assert run("sensitivity", [*flags, "--screen", "2", "--top", "1", "--runs", "0"]) == 0
    assert run("diagnose", [*flags, "--plots", "0"]) == 0
    assert run("qat", [*flags, "--epochs", "1"]) == 0
    for engine in ENGINES:
        more = ["--engine", engine, "--runs", "2", "--of", "ptq"]
        assert run("engine", [*flags, *more]) == 0
    assert run("table", [*flags, "--engine", "onnxruntime", "--runs", "2"]) == 0
    assert run("report", flags) == 0
    return folder


def assert_restated(row: dict[str, Any], predictor: Predictor, other: TinySet) -> None:
    images = read_dataset(other.data).images("val")
    boxes = boxes_of(predictor, images, SIZE)
    wanted = average_precision(txt_truth(images), range(1, len(images) + 1), boxes)
    assert (row["map50_95"], row["map50"]) == pytest.approx(wanted, abs=NEAR)


def test_the_baseline(project: Path, other: TinySet) -> None:
    model = yoloq.load(other.weights)
    [row] = result(project, "baseline")["rows"]
    assert_restated(row, predictor_of(model, SIZE, "cpu"), other)
    apart = yoloq.evaluate(model, other.data, device="cpu")
    assert row["map50"] > apart.map50 + 10 * NEAR


@pytest.mark.parametrize("stage", ["ptq", "qat"])
def test_int8(stage: str, project: Path, other: TinySet) -> None:
    model = yoloq.load_quantized(project / "run" / f"{stage}.pt")
    [row] = result(project, stage)["rows"]
    assert_restated(row, predictor_of(model, SIZE, "cpu"), other)


@pytest.mark.parametrize("name", ENGINES)
def test_engines_keep_the_model_s_classes(name: str, project: Path, other: TinySet) -> None:
    """`--single-cls` is of the figures, not of the file."""
    for row in result(project, f"engine-{name}")["rows"]:
        engine, precision = get_engine(name), row["precision"]
        files = (project / "run").glob(f"{name}-{precision}.*")
        [file] = (each for each in files if each.suffix in (".xml", ".onnx", ".pt"))
        predictor = engine.load(file, precision, "cpu", 1)
        assert predictor.model.names == ("dark", "bright")
        assert_restated(row, predictor, other)
        figures = yoloq.evaluate(Detector(predictor), other.data, single_cls=True)
        assert figures.map50_95 == pytest.approx(row["map50_95"], abs=NEAR)


def test_sensitivity_diagnosis_and_qat_start_from_the_same_figures(project: Path) -> None:
    [row] = result(project, "ptq")["rows"]
    lines = (project / "run" / "sensitivity.jsonl").read_text().splitlines()
    base = next(
        line
        for line in map(json.loads, lines)
        if line.get("part") == "score" and line["name"] == "base"
    )
    assert base["map50_95"][0] == pytest.approx(row["map50_95"], abs=NEAR)
    assert base["fidelity"][0] == pytest.approx(row["fidelity"], abs=NEAR)
    for found in (
        result(project, "diagnose")["notes"]["fidelity"],
        result(project, "qat")["notes"]["best"]["ptq"],
    ):
        assert found == pytest.approx(row["fidelity"], abs=NEAR)


def test_the_report_says_it(project: Path, other: TinySet) -> None:
    said = f"its labels and the 2 classes of {other.weights} count as one"
    assert f"--single-cls: {said}" in (project / "run" / "report.md").read_text()


def test_results_with_and_without_it_are_kept_apart(
    tiny: TinySet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = []
    for more in ((), ("--single-cls",), ("--single-cls",)):
        assert run("ptq", tiny.flags(tmp_path, *more)) == 0
        figures.append([result(tmp_path, s)["rows"][0]["map50_95"] for s in ("baseline", "ptq")])
        said = capsys.readouterr().err
    assert figures[0] != figures[1] == figures[2]
    assert "ptq.json is up to date" in said
    assert run("ptq", tiny.flags(tmp_path)) == 0
    said = capsys.readouterr().err
    assert "is of other weights, data or image size: running baseline first" in said
    assert result(tmp_path, "ptq")["rows"][0]["map50_95"] == figures[0][1]


def test_labels_of_one_class_train_no_model_of_many(
    tiny: TinySet, tmp_path: Path, the_error: Any
) -> None:
    assert run("qat", tiny.flags(tmp_path, "--single-cls", "--loss", "both")) == 2
    want = r"--loss both: with --single-cls .* 2 classes of .*tiny\.pt; use --labels teacher"
    assert re.search(want, the_error())
