"""YOLO's lines and COCO's document say the same boxes, and our own readers take them."""

import json
from pathlib import Path

import cv2
import numpy as np

from yoloq.data.dataset import read_dataset
from yoloq.models.heads.decode import Candidates
from yoloq.stages.predict.forms import coco_file, yolo_lines

FOUND = Candidates(
    np.array([[10, 20, 50, 40], [0, 0, 100, 50]], np.float32),
    np.array([0.75, 0.5], np.float32),
    np.array([1, 0]),
)
NOTHING = Candidates(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, int))


def test_a_line_a_box_in_shares_of_the_image() -> None:
    assert yolo_lines(FOUND, 50, 100) == (
        "1 0.300000 0.600000 0.400000 0.400000\n0 0.500000 0.500000 1.000000 1.000000\n"
    )
    assert yolo_lines(FOUND, 50, 100, scores=True).splitlines()[0].split()[5:] == ["0.750000"]
    assert yolo_lines(NOTHING, 50, 100) == ""


def test_ids_of_a_coco_file_count_from_1(tmp_path: Path) -> None:
    with coco_file(tmp_path / "coco.json", ("dark", "bright")) as document:
        document.add("empty.jpg", 10, 10, NOTHING)
        document.add("sub/a.jpg", 50, 100, FOUND)
    made = json.loads((tmp_path / "coco.json").read_text())
    assert [image["id"] for image in made["images"]] == [1, 2]
    assert made["images"][1] == {"id": 2, "file_name": "sub/a.jpg", "height": 50, "width": 100}
    assert made["categories"] == [{"id": 1, "name": "dark"}, {"id": 2, "name": "bright"}]
    assert made["annotations"] == [
        {
            **{"id": 1, "image_id": 2, "category_id": 2, "bbox": [10.0, 20.0, 40.0, 20.0]},
            **{"area": 800.0, "iscrowd": 0, "score": 0.75},
        },
        {
            **{"id": 2, "image_id": 2, "category_id": 1, "bbox": [0.0, 0.0, 100.0, 50.0]},
            **{"area": 5000.0, "iscrowd": 0, "score": 0.5},
        },
    ]


def test_a_coco_file_without_a_box_is_whole(tmp_path: Path) -> None:
    with coco_file(tmp_path / "coco.json", ("dark",)):
        pass
    assert json.loads((tmp_path / "coco.json").read_text()) == {
        "annotations": [],
        "images": [],
        "categories": [{"id": 1, "name": "dark"}],
    }


def test_it_grows_on_the_disk(tmp_path: Path) -> None:
    with coco_file(tmp_path / "coco.json", ("dark", "bright")) as document:
        for index in range(1000):
            document.add(f"{index}.jpg", 50, 100, FOUND)
        assert (tmp_path / "coco.json").stat().st_size > 100_000
        assert [file.name for file in tmp_path.iterdir()] == ["coco.json"]


def test_both_forms_are_read_back_as_the_same_labels(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.png"), np.zeros((50, 100, 3), np.uint8))
    (tmp_path / "labels" / "a.txt").write_text(yolo_lines(FOUND, 50, 100))
    with coco_file(tmp_path / "coco.json", ("dark", "bright")) as document:
        document.add("a.png", 50, 100, FOUND)
    common = f"path: {tmp_path}\nval: images\nnames: [dark, bright]\n"
    (tmp_path / "txt.yaml").write_text(common)
    (tmp_path / "coco.yaml").write_text(common + "annotations: {val: coco.json}\n")
    for name in ("txt", "coco"):
        dataset = read_dataset(tmp_path / f"{name}.yaml")
        truth, report = dataset.truth("val", dataset.images("val"))
        assert (report.problems, report.unlisted) == ((), 0)
        order = np.argsort(truth.classes)
        np.testing.assert_allclose(truth.boxes[order], FOUND.boxes[::-1], atol=1e-4)
        assert truth.classes[order].tolist() == [0, 1]
