"""The contract of every label format, and a new one that is a row and nothing else."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from yoloq.base.errors import DataError
from yoloq.data import formats
from yoloq.data.dataset import Dataset, read_dataset
from yoloq.data.formats import Format
from yoloq.data.truth import Label, collect


def csv_set(folder: Path) -> Path:
    """Two images, and a labels.csv that the data yaml names."""
    (folder / "val").mkdir()
    for name in ("a", "b"):
        cv2.imwrite(str(folder / "val" / f"{name}.png"), np.zeros((40, 60, 3), np.uint8))
    (folder / "labels.csv").write_text("a,1,10,10,30,20\n")
    file = folder / "data.yaml"
    file.write_text("val: val\nnames: [cat, dog]\nannotations: {val: labels.csv}\n")
    return file


def read_csv(source: Path, names, images):
    index = {image.stem: i for i, image in enumerate(images)}
    rows = [line.split(",") for line in source.read_text().splitlines()]
    labels = []
    for name, category, *box in rows:
        left, top, right, bottom = map(float, box)
        area = (right - left) * (bottom - top)
        labels.append(Label(index[name], int(category), (left, top, right, bottom), area))
    return collect(labels, images, source=source)


@pytest.fixture
def csv(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Dataset:
    row = Format("csv", lambda source: source.suffix == ".csv", read_csv)
    monkeypatch.setattr(formats, "FORMATS", (*formats.FORMATS, row))
    return read_dataset(csv_set(tmp_path))


def test_a_new_format_is_a_row(csv: Dataset) -> None:
    assert csv.format("val").name == "csv"
    truth, report = csv.truth("val", csv.images("val"))
    assert truth.boxes.tolist() == [[10, 10, 30, 20]] and truth.classes.tolist() == [1]
    assert (report.boxes, report.background) == (1, 1)


def test_its_labels_are_hashed_like_the_others(csv: Dataset) -> None:
    before = csv.sha256
    (csv.file.parent / "labels.csv").write_text("a,0,10,10,30,20\n")
    assert read_dataset(csv.file).sha256 != before


def test_a_format_may_claim_a_folder_of_images(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A file of labels for each image, which lies elsewhere and is hashed."""
    file = csv_set(tmp_path)
    file.write_text("val: val\nnames: [cat, dog]\n")

    def boxes_of(source: Path, image: Path) -> Path:
        return source.parent / "boxes" / f"{image.stem}.box"

    def read(source: Path, names, images):
        rows = [boxes_of(source, image).read_text().split() for image in images]
        corners = [tuple(map(float, row)) for row in rows]
        labels = [Label(i, 0, box, 100.0) for i, box in enumerate(corners) if box]
        return collect(labels, images, source=source)

    row = Format("boxes", lambda source: source.name == "val", read, file_of=boxes_of)
    monkeypatch.setattr(formats, "FORMATS", (*formats.FORMATS, row))
    (tmp_path / "boxes").mkdir()
    (tmp_path / "boxes" / "a.box").write_text("10 10 20 20")
    (tmp_path / "boxes" / "b.box").write_text("")
    dataset = read_dataset(file)
    assert dataset.format("val").name == "boxes"
    assert dataset.truth("val", dataset.images("val"))[0].boxes.tolist() == [[10, 10, 20, 20]]
    before = dataset.sha256
    (tmp_path / "boxes" / "b.box").write_text("0 0 10 10")
    assert read_dataset(file).sha256 != before


def test_named_annotations_are_never_passed_over(tmp_path: Path) -> None:
    file = csv_set(tmp_path)  # labels.csv, which no format claims
    dataset = read_dataset(file)
    with pytest.raises(DataError, match=r"labels\.csv: is not a json file"):
        dataset.truth("val", dataset.images("val"))


@pytest.mark.parametrize(
    ("source", "name"),
    [(None, "YOLO txt"), ("instances_val.json", "COCO json"), ("labels", "COCO json")],
)
def test_the_format_of_what_a_yaml_names(source: str | None, name: str) -> None:
    assert formats.format_of(source and Path(source)).name == name
