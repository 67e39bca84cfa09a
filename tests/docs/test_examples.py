"""The examples of `docs/` do what their pages say, on the tiny set."""

import importlib.util
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from doc_pages import DOCS
from tiny_set import TinySet

import yoloq
from yoloq.data.dataset import read_dataset

pytestmark = pytest.mark.usefixtures("one_thread")

EXAMPLES = DOCS / "examples"


@pytest.fixture
def app() -> ModuleType:
    spec = importlib.util.spec_from_file_location("app", EXAMPLES / "app.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_the_application_finds_what_the_engine_finds(
    engine: str,
    app: ModuleType,
    tiny: TinySet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip(engine)
    built = yoloq.build(yoloq.load(tiny.weights), engine, tmp_path, threads=1, imgsz=64)
    [file] = [file for file in tmp_path.glob(f"{engine}-fp32.*") if file.suffix != ".bin"]
    opened = app.open_detector(file, threads=1)
    for detector in (built, opened):  # a random network is sure of nothing
        detector.predictor.model = replace(detector.predictor.model, conf=1e-6)
    photos = [str(photo) for photo in read_dataset(tiny.data).images("val")[:2]]
    wanted = built(photos)
    assert opened(photos) == wanted

    monkeypatch.setattr(app, "open_detector", lambda file: opened)
    monkeypatch.setattr("sys.argv", ["app.py", str(file), *photos])
    app.main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == sum(map(len, wanted)) > 0
    first = wanted[0][0]
    assert lines[0].startswith(f"{photos[0]}: {first.name} {first.score:.2f} at {first.x1:.0f} ")


def test_the_application_has_thirty_lines() -> None:
    assert len((EXAMPLES / "app.py").read_text().splitlines()) <= 31


def test_coco_has_its_eighty_names() -> None:
    names = yaml.safe_load((EXAMPLES / "coco.yaml").read_text())["names"]
    assert len(names) == len(set(names)) == 80
    assert (names[0], names[16], names[74], names[79]) == ("person", "dog", "clock", "toothbrush")


def test_a_set_in_coco_json_is_read(tiny: TinySet, tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / "custom.yaml", tmp_path)
    shutil.copytree(tiny.data.parent / "images", tmp_path / "images")
    (tmp_path / "annotations").mkdir()
    photos = sorted((tmp_path / "images" / "val").iterdir())
    document = {
        "images": [
            {"id": i, "file_name": photo.name, "width": 64, "height": 64}
            for i, photo in enumerate(photos)
        ],
        "annotations": [
            {"id": 1, "image_id": 0, "category_id": 7, "bbox": [4, 8, 20, 16], "iscrowd": 0}
        ],
        "categories": [{"id": 7, "name": "dent"}, {"id": 9, "name": "scratch"}],
    }
    for split in ("train", "val"):
        (tmp_path / "annotations" / f"instances_{split}.json").write_text(json.dumps(document))
    dataset = read_dataset(tmp_path / "custom.yaml")
    truth = dataset.truth("val", dataset.images("val"))[0]
    assert dataset.names == ("scratch", "dent")
    assert [list(map(float, box)) for box in truth.boxes] == [[4, 8, 24, 24]]
    assert list(truth.classes) == [1]
