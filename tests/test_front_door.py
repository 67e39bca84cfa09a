"""The calls that a notebook needs, and the lines of the README that show them."""

import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tiny_set import TinySet

import yoloq
from yoloq.__main__ import main
from yoloq.base.errors import CheckpointError, DataError, EngineError, PolicyError, UserError
from yoloq.base.own_files import ROOT
from yoloq.base.result import read_result
from yoloq.data.dataset import read_dataset
from yoloq.data.loader import sample
from yoloq.measure.detector import Box, Detector
from yoloq.models.load import LoadedModel
from yoloq.quant.quantized import QuantizedModel, save_quantized
from yoloq.stages.ptq import PtqConfig

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model(tiny: TinySet) -> LoadedModel:
    return yoloq.load(tiny.weights)


@pytest.fixture(scope="module")
def train(tiny: TinySet) -> tuple[Path, ...]:
    return read_dataset(tiny.data).images("train")


@pytest.fixture(scope="module")
def quantized(model: LoadedModel, train: tuple[Path, ...]) -> QuantizedModel:
    return yoloq.calibrate(model, train, engine="openvino", imgsz=64)


def test_figures_are_those_of_the_stages(model: LoadedModel, tiny: TinySet, tmp_path: Path) -> None:
    """The same images, the same order: the same bits."""
    assert main("ptq", tiny.flags(tmp_path, "--images", "64", "--engine", "openvino")) == 0
    wanted = {name: read_result(tmp_path / "run" / f"{name}.json") for name in ("baseline", "ptq")}
    found = yoloq.evaluate(model, tiny.data)
    assert found.map50_95 == wanted["baseline"].rows[0].map50_95
    assert found.images == wanted["baseline"].data["images"]


def test_a_calibrated_model_leaves_the_float_one_as_it_was(
    model: LoadedModel, quantized: QuantizedModel
) -> None:
    assert quantized.model.net is not model.net
    assert not any("quantizer" in name for name, _ in model.net.named_modules())
    floats = quantized.placement.float_layers
    assert floats and len(floats) < len(quantized.placement.layers)


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime", "torch"])
def test_an_engine_gives_named_boxes(
    engine: str,
    model: LoadedModel,
    quantized: QuantizedModel,
    tiny: TinySet,
    train: tuple[Path, ...],
    tmp_path: Path,
) -> None:
    pytest.importorskip(engine)
    detectors = [yoloq.build(m, engine, tmp_path, threads=1, imgsz=64) for m in (model, quantized)]
    for detector, precision in zip(detectors, ("fp32", "int8"), strict=True):
        assert isinstance(detector, Detector)
        assert list(tmp_path.glob(f"{engine}-{precision}.*"))
        detector.predictor.model = replaced_conf(detector)
        one = detector(train[0])
        pixels = cv2.imread(str(train[0]))[..., ::-1]
        assert detector(np.ascontiguousarray(pixels)) == one
        assert detector([train[0], str(train[0])]) == [one, one]
        assert all(isinstance(box, Box) and box.name in model.names for box in one)
        assert [box.score for box in one] == sorted((box.score for box in one), reverse=True)
    assert detectors[0](train[0]), "at this threshold there are boxes to name"
    assert yoloq.evaluate(detectors[1], tiny.data, limit=2).images == 2


def test_streams_share_the_work_of_a_list(
    model: LoadedModel, train: tuple[Path, ...], tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    one, two = (
        yoloq.build(model, "onnxruntime", tmp_path, threads=2, streams=streams, imgsz=64)
        for streams in (1, 2)
    )
    for detector in (one, two):
        detector.predictor.model = replaced_conf(detector)
    assert [len(each.path.predictors) for each in (one, two)] == [1, 2]
    assert two(list(train)) == [one(file) for file in train]
    for engine, streams, words in (
        ("onnxruntime", 3, "--streams 3: must be 1 to 2, the threads"),
        ("torch", 2, "--streams 2: the torch engine runs one image at a time"),
    ):
        with pytest.raises(UserError, match=words):
            yoloq.build(model, engine, tmp_path, threads=2, streams=streams, imgsz=64)


def replaced_conf(detector: Detector):
    from dataclasses import replace

    return replace(detector.predictor.model, conf=1e-6)


def test_a_graph_is_exported_as_its_engine_runs_it(
    model: LoadedModel, quantized: QuantizedModel, tmp_path: Path
) -> None:
    import onnx

    for given, kinds in ((model, 0), (quantized, 1)):
        file = yoloq.export(given, tmp_path / "a" / "model.onnx", "openvino", imgsz=64)
        nodes = [node.op_type for node in onnx.load(file).graph.node]
        assert ("QuantizeLinear" in nodes) is bool(kinds)
    with pytest.raises(EngineError, match="reads no ONNX"):
        yoloq.export(model, tmp_path / "b.onnx", "torch")
    assert not (tmp_path / "b.onnx").exists()


def test_mistakes_are_one_line(model: LoadedModel, train: tuple[Path, ...], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist; give a folder, a list or image files"):
        yoloq.calibrate(model, tmp_path / "nothing")
    with pytest.raises(PolicyError, match="calibrator 'best': not one of"):
        yoloq.calibrate(model, train[:1], "best", engine="torch", imgsz=64)
    with pytest.raises(PolicyError, match="refine 'smoth': 'smoth' is not one of none, equal"):
        yoloq.calibrate(model, train[:1], refine="smoth", engine="torch", imgsz=64)
    with pytest.raises(EngineError, match="--engine tpu: not one of auto"):
        yoloq.build(model, "tpu", tmp_path)


def test_what_does_not_fit_is_one_line(
    model: LoadedModel, quantized: QuantizedModel, tiny: TinySet, tmp_path: Path
) -> None:
    with pytest.raises(EngineError, match="--precisions int8: this model is float"):
        yoloq.build(model, "torch", tmp_path, "int8", imgsz=64)
    with pytest.raises(EngineError, match="--precisions fp8: torch runs fp32, bf16"):
        yoloq.build(quantized, "torch", tmp_path, "fp8", imgsz=64)
    with pytest.raises(UserError, match="imgsz 100: must be a multiple of the stride 32"):
        yoloq.build(model, "torch", tmp_path, imgsz=100)
    with pytest.raises(UserError, match="imgsz 100: must be a multiple of the stride 32"):
        yoloq.evaluate(model, tiny.data, imgsz=100)
    more = tiny.data.with_name("more.yaml")
    more.write_text(tiny.data.read_text().replace("names: [", "names: [other, "))
    with pytest.raises(DataError, match="has 3 classes, but the model has 2"):
        yoloq.evaluate(model, more)
    assert not list(tmp_path.iterdir())


def test_an_int8_file_is_not_taken_for_the_float_model(
    quantized: QuantizedModel, tmp_path: Path
) -> None:
    file = tmp_path / "ptq.pt"
    save_quantized(file, quantized)
    with pytest.raises(CheckpointError, match="holds an int8 model"):
        yoloq.load(file)
    assert yoloq.load_quantized(file).policy == quantized.policy


def test_images_are_drawn_as_the_stage_draws_them(
    model: LoadedModel, train: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    read = "yoloq.quant.ptq.share_of_batches"
    monkeypatch.setattr(read, lambda files, *_: drawn.append(files) or ())
    with pytest.raises(UserError, match="calibration failed"):
        yoloq.calibrate(model, train[0].parent, engine="torch", imgsz=64, count=3)
    assert drawn == [sample(train, 3, PtqConfig().seed)]


@pytest.mark.parametrize(
    ("array", "named"),
    [
        pytest.param(np.zeros((8, 8, 3), np.float32), r"float32 \(8, 8, 3\)", id="float"),
        pytest.param(np.zeros((8, 8), np.uint8), r"uint8 \(8, 8\)", id="grey"),
        pytest.param(np.zeros((2, 8, 8, 3), np.uint8), r"uint8 \(2, 8, 8, 3\)", id="batch"),
        pytest.param(np.zeros((0, 8, 3), np.uint8), r"uint8 \(0, 8, 3\)", id="empty"),
    ],
)
def test_an_array_that_is_no_image_is_named(
    model: LoadedModel, tmp_path: Path, array: np.ndarray, named: str
) -> None:
    detector = yoloq.build(model, "torch", tmp_path, threads=1, imgsz=64)
    with pytest.raises(DataError, match=rf"an image is {named}: give uint8"):
        detector(array)


def test_what_is_no_image_at_all_is_named(model: LoadedModel, tmp_path: Path) -> None:
    detector = yoloq.build(model, "torch", tmp_path, threads=1, imgsz=64)
    with pytest.raises(DataError, match="an image is a Tensor: give a file or a uint8 array"):
        detector(torch.zeros(8, 8, 3))


def test_the_import_is_light() -> None:
    code = "import sys, yoloq; print([n for n in ('torch', 'onnx', 'numpy') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_lines_of_the_readme_run(
    tiny: TinySet, train: tuple[Path, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they stand, with the files that they name."""
    text = (ROOT / "README.md").read_text()
    [lines] = re.findall(r"```python\n(import yoloq\n.*?)```", text, re.S)
    assert len(lines.strip().splitlines()) <= 10
    monkeypatch.chdir(tmp_path)
    for name, target in (("yolov5s.pt", tiny.weights), ("photo.jpg", train[0])):
        (tmp_path / name).symlink_to(target)
    lines = lines.replace('"coco.yaml"', repr(str(tiny.data)))
    lines = lines.replace('"coco/images/train2017"', repr(str(train[0].parent)))
    exec(compile(lines, "README.md", "exec"), {})
    assert list(tmp_path.glob("engines/openvino-int8.*"))
