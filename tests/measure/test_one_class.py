"""`--single-cls` on models of many classes: YOLOv5's rule, and pycocotools without classes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from single_cls import agnostic_nms, average_precision, boxes_of, txt_truth

import yoloq
from yoloq.base.config import StageConfig
from yoloq.data.dataset import read_dataset
from yoloq.engines.torch import predictor_of
from yoloq.geometry.boxes import Letterbox
from yoloq.measure.evaluate import detect, find_boxes
from yoloq.models.heads.anchor import AnchorHead

HEAD = AnchorHead(strides=(32,), anchors=(((20.0, 20.0),),), nc=3)


def logit(p: float) -> float:
    return float(np.log(p / (1 - p)))


def test_a_box_of_several_classes_counts_once_and_any_class_beats_any() -> None:
    """The box of cell (0, 0) is of classes 0 and 2; that of (0, 1), of class 1, overlaps it by
    16.8 / 23.2 = 0.72; that of (1, 1) is apart.
    """
    raw = np.full((1, 8, 2, 2), -20.0, np.float32)
    raw[0, 2:4] = 0  # the anchor's size
    raw[0, 0, 0, 0], raw[0, 1, 0, 0] = logit(0.70), 0  # centre x (1.4 - 0.5) * 32 = 28.8
    raw[0, 0, 0, 1], raw[0, 1, 0, 1] = logit(0.25), 0  # centre x (0.5 - 0.5 + 1) * 32 = 32
    raw[0, :2, 1, 1] = 0
    for (y, x), scores in {
        (0, 0): (0.5, 0.1, 0.6),
        (0, 1): (0.1, 0.8, 0.1),
        (1, 1): (0.3, 0.1, 0.1),
    }.items():
        raw[0, 4, y, x] = 20
        raw[0, 5:, y, x] = [logit(score) for score in scores]
    geometry = Letterbox(1.0, 0, 0, 64, 64)

    def found(one_class: bool) -> list[tuple[int, float]]:
        [item] = find_boxes([raw], HEAD, [geometry], 0.2, 0.6, 300, one_class)
        scores = item.scores.round(3).tolist()
        return list(zip(item.classes.tolist(), scores, strict=True))

    want = [(1, 0.8), (2, 0.6), (0, 0.5), (0, 0.3)]
    assert found(False) == [(c, pytest.approx(s)) for c, s in want]
    assert found(True) == [(0, pytest.approx(0.8)), (0, pytest.approx(0.3))]


def test_the_restatement_s_nms() -> None:
    """Boxes 0 0 10 10 (classes 0 and 1) and 0 0 10 9 (class 1, IoU 0.9): the best one stays."""
    rows = torch.tensor([[5, 5, 10, 10, 1, 0.5, 0.4], [5, 4.5, 10, 9, 1, 0, 0.7]]).double()
    assert agnostic_nms(rows).tolist() == [[0, 0, 10, 9, pytest.approx(0.7)]]


@pytest.mark.usefixtures("one_thread")
def test_the_built_in_model_of_ten_classes() -> None:
    usual, count = StageConfig(), 40
    images = read_dataset(usual.data).images("val")[:count]
    model = yoloq.load(usual.weights)
    predictor = predictor_of(model, 320, "cpu")
    wanted = boxes_of(predictor, images, 320)
    found = detect(predictor, images, imgsz=320, workers=0, progress=False, one_class=True)
    for index, boxes in enumerate(wanted):
        here = found.image == index
        assert here.sum() == len(boxes)
        np.testing.assert_allclose(found.scores[here], boxes[:, 4], rtol=1e-4, atol=1e-6)
    assert not found.classes.any()
    map50_95, map50 = average_precision(txt_truth(images), range(1, count + 1), wanted)
    figures = yoloq.evaluate(model, usual.data, limit=count, device="cpu", single_cls=True)
    assert figures.map50_95 == pytest.approx(map50_95, abs=2e-4)
    assert figures.map50 == pytest.approx(map50, abs=2e-4)
    apart = yoloq.evaluate(model, usual.data, limit=count, device="cpu")
    assert abs(figures.map50_95 - apart.map50_95) > 0.005


@pytest.mark.usefixtures("one_thread")
def test_official_yolov5n_on_photographs(coco_mini: Path, tmp_path: Path) -> None:
    """Crowds included; the labels name 80 classes with COCO's own numbers."""
    truth = json.loads((coco_mini / "annotations" / "dev.json").read_text())
    names = (coco_mini / "data.yaml").read_text().split("names:")[1]
    data = tmp_path / "photographs.yaml"
    data.write_text(
        f"path: {coco_mini}\nval: images/dev\n"
        f"annotations: {{val: annotations/dev.json}}\nnames:{names}"
    )
    images = read_dataset(data).images("val")[:48]
    by_name = {entry["file_name"]: entry["id"] for entry in truth["images"]}
    ids = [by_name[file.name] for file in images]
    model = yoloq.load(coco_mini / "yolov5n.pt")
    wanted = boxes_of(predictor_of(model, 640, "cpu"), images, 640)
    map50_95, map50 = average_precision(truth, ids, wanted)
    figures = yoloq.evaluate(
        model, data, limit=len(images), imgsz=640, device="cpu", single_cls=True
    )
    assert figures.map50_95 == pytest.approx(map50_95, abs=5e-4)
    assert figures.map50 == pytest.approx(map50, abs=5e-4)
