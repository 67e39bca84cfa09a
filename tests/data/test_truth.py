"""Txt labels and COCO json: boxes in pixels, and what happens to bad rows."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from yoloq.base.errors import DataError
from yoloq.data.dataset import Dataset, read_dataset
from yoloq.data.formats.txt import LabelRow, parse_row, read_rows
from yoloq.stages.data.stage import describe

HEIGHT, WIDTH = 50, 100


def _set(folder: Path, labels: dict[str, str | bytes | None], names: int = 2) -> Dataset:
    """A set with one picture of 100 x 50 for each text of labels (None: no label file)."""
    import cv2

    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for name, text in labels.items():
        cv2.imwrite(str(folder / "images" / f"{name}.png"), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
        if text is not None:
            data = text if isinstance(text, bytes) else text.encode()
            (folder / "labels" / f"{name}.txt").write_bytes(data)
    images = tuple(folder / "images" / f"{name}.png" for name in labels)
    classes = tuple(f"class{index}" for index in range(names))
    return Dataset(folder / "data.yaml", classes, None, {"val": images})


def test_boxes_in_pixels_of_the_original(tmp_path: Path) -> None:
    dataset = _set(tmp_path, {"a": "1 0.5 0.5 0.2 0.4\n", "b": None, "c": "", "d": "0 0 0 1 1\r\n"})
    truth, report = dataset.truth("val", dataset.images("val"))
    assert truth.images == 4
    assert truth.image.tolist() == [0, 3]
    assert truth.classes.tolist() == [1, 0]
    np.testing.assert_allclose(truth.boxes, [[40, 15, 60, 35], [0, 0, 50, 25]], rtol=1e-6)
    np.testing.assert_allclose(truth.areas, [400, 1250], rtol=1e-6)
    assert not truth.crowd.any()
    assert (report.boxes, report.background, report.problems) == (2, 2, ())
    [line] = report.lines()
    assert line.startswith("1 of 4 images have no label file, such as ")
    assert line.endswith("labels/b.txt: taken as background; label them, or give an empty file")


@pytest.mark.parametrize(
    ("label", "image", "said"),
    [
        pytest.param("a.TXT", "a.png", "(there is a.TXT)", id="upper case"),
        pytest.param("A.txt", "a.png", "(there is A.txt)", id="another case"),
        pytest.param("a.png.txt", "a.png", "(there is a.png.txt)", id="suffix kept"),
        pytest.param("caf\u00e9.txt", "cafe\u0301.png", "(there is caf\u00e9.txt)", id="accent"),
    ],
)
def test_a_label_file_by_another_name_is_said(
    tmp_path: Path, label: str, image: str, said: str
) -> None:
    """YOLOv5 does not read it either."""
    dataset = _set(tmp_path, {"z": "0 .5 .5 1 1", Path(image).stem: None})
    (tmp_path / "labels" / label).write_text("0 .5 .5 1 1")
    [line] = dataset.truth("val", dataset.images("val"))[1].lines()
    assert line.startswith("1 of 2 images have no label file, such as ") and said in line


def test_labels_beside_a_link_are_those_of_the_folder_it_leads_to(tmp_path: Path) -> None:
    """`val: pictures` with pictures -> set/images: YOLOv5 resolves the link."""
    _set(tmp_path / "set", {"a": "0 .5 .5 1 1"})
    (tmp_path / "pictures").symlink_to(tmp_path / "set" / "images")
    (tmp_path / "d.yaml").write_text("val: pictures\nnames: [cat]\n")
    dataset = read_dataset(tmp_path / "d.yaml")
    assert dataset.truth("val", dataset.images("val"))[1].boxes == 1


def test_rows_that_are_equal_in_fp32_are_one(tmp_path: Path) -> None:
    dataset = _set(tmp_path, {"a": "0 .5 .5 .2 .2\n1 .5 .5 .2 .2\n0 .500000001 .5 .2 .2"})
    truth, report = dataset.truth("val", dataset.images("val"))
    assert (truth.classes.tolist(), report.repeated) == ([0, 1], 1)


@pytest.mark.parametrize(
    ("line", "want"),
    [
        pytest.param("3 .5 .5 .2 .4", LabelRow(3, (0.5, 0.5, 0.2, 0.4)), id="plain"),
        pytest.param("3.0\t.5 5e-1 1 1", LabelRow(3, (0.5, 0.5, 1, 1)), id="float class, tab"),
        pytest.param("0 0 0.2 0.5 0.2 0.5 0.6", LabelRow(0, (0.25, 0.4, 0.5, 0.4)), id="outline"),
        pytest.param(
            "0 1.0005 -0.0005 .5 .5", LabelRow(0, (1, 0, 0.5, 0.5)), id="rounding at edges"
        ),
    ],
)
def test_good_rows(line: str, want: LabelRow) -> None:
    row = parse_row(line)
    assert row.category == want.category
    np.testing.assert_allclose(row.xywh, want.xywh, rtol=1e-12)


BAD_ROWS = [
    pytest.param("0 .5 .5 .2", "4 columns, want 5", id="four columns"),
    pytest.param("0 .5 .5 .2 .2 .9", "6 columns, want 5", id="six columns: a prediction"),
    pytest.param("0 .1 .1 .2 .2 .3 .3 .4", "8 columns, want 5", id="eight columns"),
    pytest.param("0,.5,.5,.2,.2", "1 columns, want 5", id="commas"),
    pytest.param("cat .5 .5 .2 .2", "not a number", id="class by name"),
    pytest.param("0 nan .5 .2 .2", "NaN or infinite", id="NaN"),
    pytest.param("0 .5 inf .2 .2", "NaN or infinite", id="infinite"),
    pytest.param("0 1.01 .5 .2 .2", "coordinates outside 0..1", id="above 1"),
    pytest.param("0 .5 -.01 .2 .2", "coordinates outside 0..1", id="below 0"),
    pytest.param("0 320 240 50 50", "coordinates outside 0..1", id="pixels"),
    pytest.param("-1 .5 .5 .2 .2", "class -1 is not", id="negative class"),
    pytest.param("0.5 .5 .5 .2 .2", "class 0.5 is not", id="half a class"),
    pytest.param("0 .5 .5 0 .2", "no width or no height", id="no width"),
    pytest.param("0 .1 .1 .1 .2 .1 .3", "no width or no height", id="outline of a line"),
]


@pytest.mark.parametrize(("line", "want"), BAD_ROWS)
def test_bad_rows_are_skipped_reported_and_counted(tmp_path: Path, line: str, want: str) -> None:
    dataset = _set(tmp_path, {"a": f"0 .5 .5 .2 .2\n\n{line}\n", "b": "1 .5 .5 .2 .2"})
    truth, report = dataset.truth("val", dataset.images("val"))
    assert truth.image.tolist() == [0, 1]
    assert [problem.where for problem in report.problems] == ["row 3"]
    file = tmp_path / "labels" / "a.txt"
    [line] = report.lines()
    assert line.startswith(f"{file}: 1 labels skipped (row 3: ")
    assert want in line


def test_corners_outside_the_image_are_clipped(tmp_path: Path) -> None:
    dataset = _set(tmp_path, {"a": "0 1 0.5 0.4 0.5"})
    truth, _ = dataset.truth("val", dataset.images("val"))
    np.testing.assert_allclose(truth.boxes, [[80, 12.5, 100, 37.5]], rtol=1e-6)
    np.testing.assert_allclose(truth.areas, [500], rtol=1e-6)


def test_repeated_rows_count_once(tmp_path: Path) -> None:
    dataset = _set(tmp_path, {"a": "0 .5 .5 .2 .2\n0 .50 .5 .2 .2\n1 .5 .5 .2 .2\n"})
    truth, report = dataset.truth("val", dataset.images("val"))
    assert truth.classes.tolist() == [0, 1]
    assert report.repeated == 1
    assert report.lines() == ["1 repeated labels dropped: each counts once"]


def test_a_class_without_a_name_is_an_error(tmp_path: Path) -> None:
    dataset = _set(tmp_path, {"a": "0 .5 .5 .2 .2\n2 .5 .5 .2 .2"})
    with pytest.raises(DataError, match=r"a\.txt: row 2 is of class 2 .* has 2 names \(0 to 1\)"):
        dataset.truth("val", dataset.images("val"))


def test_label_file_that_is_no_text(tmp_path: Path) -> None:
    dataset = _set(tmp_path, {"a": b"\x80\xff\x00", "b": "\ufeff0 .5 .5 .2 .2"})
    truth, report = dataset.truth("val", dataset.images("val"))
    assert truth.image.tolist() == [1]
    assert "is not a text file" in report.lines()[0]


def test_unreadable_image_has_no_labels(tmp_path: Path) -> None:
    dataset = _set(tmp_path, {"a": "0 .5 .5 .2 .2", "b": "0 .5 .5 .2 .2"})
    images = dataset.images("val")
    images[0].write_bytes(b"")
    truth, report = dataset.truth("val", images)
    assert truth.image.tolist() == [1]
    assert (report.unreadable, report.background) == ((images[0],), 0)
    assert report.lines() == [
        f"{images[0]}: cannot be read as an image; skipped: mend or remove it"
    ]


@pytest.mark.parametrize(
    ("content", "want"),
    [
        (b"x", "cannot be read as an image; skipped"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer .*`git lfs pull`"),
        (None, "does not exist; skipped"),
    ],
    ids=["damaged", "pointer", "missing"],
)
def test_why_an_image_is_skipped(tmp_path: Path, content: bytes | None, want: str) -> None:
    dataset = _set(tmp_path, {"a": "0 .5 .5 .2 .2", "b": "0 .5 .5 .2 .2"})
    images = dataset.images("val")
    images[0].unlink()
    if content is not None:
        images[0].write_bytes(content)
    [line] = dataset.truth("val", images)[1].lines()
    assert re.fullmatch(rf"{images[0]}: {want}.*", line)


def test_labels_that_are_git_lfs_pointers(tmp_path: Path) -> None:
    dataset = _set(tmp_path, {"a": "version https://git-lfs.github.com/spec/v1\n"})
    [line, _] = dataset.truth("val", dataset.images("val"))[1].lines()
    assert "a.txt: 1 labels skipped (file: is a Git LFS pointer" in line and "git lfs pull" in line


def test_no_labels_at_all_is_said(tmp_path: Path) -> None:
    dataset = _set(tmp_path, {"a": None, "b": None})
    truth, report = dataset.truth("val", dataset.images("val"))
    assert truth.boxes.shape == (0, 4)
    [line] = report.lines()
    assert line.startswith("no label of 2 images can be used (looked for ")
    assert str(tmp_path / "labels" / "a.txt") in line


def test_long_reports_are_cut(tmp_path: Path) -> None:
    dataset = _set(tmp_path, {str(index): "bad" for index in range(5)})
    _, report = dataset.truth("val", dataset.images("val"))
    assert report.lines(limit=2)[2] == "and 3 more files with skipped labels or unreadable"


def test_rows_of_a_missing_file(tmp_path: Path) -> None:
    assert read_rows(tmp_path / "no.txt", 2) == ((), ())


def test_describe(tmp_path: Path) -> None:
    dataset = _set(tmp_path, {"a": "0 .5 .5 .2 .2\nbad", "b": None})
    first, _, second = describe(dataset, "val")
    assert first == (
        "val: 2 images, 1 of them without objects; 1 boxes of 1 classes; 1 labels skipped"
    )
    assert "1 columns" in second


def test_train_need_not_have_labels(tmp_path: Path) -> None:
    dataset = _set(tmp_path, {"a": None, "b": None})
    [line] = describe(replace(dataset, splits={"train": dataset.images("val")}), "train")
    assert line.startswith("train: 2 images, no label of them found; only ")
    assert "--loss task" in line
    (tmp_path / "images" / "b.png").write_bytes(b"no picture")
    _, other = describe(replace(dataset, splits={"train": dataset.images("val")}), "train")
    assert "b.png" in other and "skipped" in other


# --- COCO json


def _coco(folder: Path, names: tuple[str, ...] = ("cat", "dog"), **change: Any) -> Dataset:
    document = {
        "images": [
            {"id": 70, "file_name": "train/a.png", "width": WIDTH, "height": HEIGHT},
            {"id": 9, "file_name": "val/a.png", "width": WIDTH, "height": HEIGHT},
            {"id": 5, "file_name": "b.png"},
        ],
        "categories": [{"id": 90, "name": "Dog"}, {"id": 3, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 9, "category_id": 90, "bbox": [10, 20, 30, 20], "area": 333},
            {"id": 2, "image_id": 5, "category_id": 3, "bbox": [0, 0, 4, 5], "iscrowd": 1},
            {"id": 3, "image_id": 70, "category_id": 3, "bbox": [0, 0, 1, 1]},
        ],
    }
    file = folder / "a.json"
    file.write_text(json.dumps({**document, **change}))
    images = tuple(folder / "images" / "val" / f"{name}.png" for name in "cba")
    return Dataset(folder / "d.yaml", names, None, {"val": images}, {"val": file})


def test_coco_labels(tmp_path: Path) -> None:
    dataset = _coco(tmp_path)
    truth, report = dataset.truth("val", dataset.images("val"))
    assert truth.image.tolist() == [2, 1]
    assert truth.classes.tolist() == [1, 0]
    assert truth.boxes.tolist() == [[10, 20, 40, 40], [0, 0, 4, 5]]
    assert truth.areas.tolist() == [333, 20]
    assert truth.crowd.tolist() == [False, True]
    assert (report.background, report.unlisted) == (1, 1)
    [line] = report.lines()
    assert line.startswith("1 images are not in the COCO json, such as c.png: taken as background;")


@pytest.mark.parametrize(
    ("names", "want"),
    [
        pytest.param(("dog", "cat"), {"Dog": 0, "cat": 1}, id="by name, other order"),
        pytest.param(("a", "dog", "b", "cat"), {"Dog": 1, "cat": 3}, id="by name, a subset"),
        pytest.param(("Katze", "Hund"), {"Dog": 1, "cat": 0}, id="by order of the ids"),
        pytest.param(("cat", "Hund"), {"Dog": 1, "cat": 0}, id="order that a name confirms"),
    ],
)
def test_categories(tmp_path: Path, names: tuple[str, ...], want: dict[str, int]) -> None:
    dataset = _coco(tmp_path, names)
    truth, _ = dataset.truth("val", dataset.images("val"))
    assert truth.classes.tolist() == [want["Dog"], want["cat"]]


@pytest.mark.parametrize(
    ("images", "annotations"),
    [
        pytest.param(int, str, id="text in annotations"),
        pytest.param(str, int, id="text in images"),
        pytest.param(int, float, id="floats"),
    ],
)
def test_ids_written_in_two_ways(tmp_path: Path, images: type, annotations: type) -> None:
    box = {"bbox": [1, 2, 3, 4], "category_id": annotations(3), "image_id": annotations(7)}
    dataset = _coco(tmp_path, images=[{"id": images(7), "file_name": "b.png"}], annotations=[box])
    truth, report = dataset.truth("val", dataset.images("val"))
    assert (truth.image.tolist(), truth.classes.tolist()) == ([1], [0])
    assert report.problems == ()


@pytest.mark.parametrize(
    ("written", "crowd"),
    [("0", False), ("1", True), (0.0, False), (True, True), (None, False), ("", False)],
)
def test_crowds_as_text(tmp_path: Path, written: Any, crowd: bool) -> None:
    box = {"image_id": 9, "category_id": 3, "bbox": [0, 0, 4, 4], "iscrowd": written}
    dataset = _coco(tmp_path, annotations=[box])
    assert dataset.truth("val", dataset.images("val"))[0].crowd.tolist() == [crowd]


def test_an_outline_without_a_box(tmp_path: Path) -> None:
    """In two parts; with a box written that one counts."""
    outline = [[3, 4, 9, 4, 9, 12], [1, 20, 5, 20, 5, 24]]
    ids = {"image_id": 9, "category_id": 3, "segmentation": outline}
    dataset = _coco(tmp_path, annotations=[ids, {**ids, "bbox": [0, 0, 4, 4]}])
    truth, _ = dataset.truth("val", dataset.images("val"))
    assert truth.boxes.tolist() == [[1, 4, 9, 24], [0, 0, 4, 4]]


def test_boxes_that_are_fractions(tmp_path: Path) -> None:
    box = {"image_id": 9, "category_id": 3, "bbox": [0.25, 0.5, 0.75, 0.5]}
    dataset = _coco(tmp_path, annotations=[box])
    with pytest.raises(DataError, match="boxes are fractions of the images; multiply"):
        dataset.truth("val", dataset.images("val"))


@pytest.mark.parametrize(
    ("boxes", "said"),
    [
        pytest.param([[40, 20, 90, 40], [10, 5, 60, 45]], True, id="corners"),
        pytest.param([[40, 20, 61, 30], [10, 5, 60, 45]], False, id="across the edge by a little"),
        pytest.param([[40, 20, 90, 40], [50, 5, 10, 45]], False, id="one that is no corners"),
    ],
)
def test_boxes_that_are_two_corners(tmp_path: Path, boxes: Any, said: bool) -> None:
    """Of an image of 100 x 50."""
    ids = {"image_id": 9, "category_id": 3}
    dataset = _coco(tmp_path, annotations=[{**ids, "bbox": box} for box in boxes])
    lines = dataset.truth("val", dataset.images("val"))[1].lines()
    assert any("seem to be two corners" in line for line in lines) == said


@pytest.mark.parametrize("names", [("dog", "Katze"), ("Katze",)], ids=["contradicts", "too few"])
def test_categories_that_do_not_fit(tmp_path: Path, names: tuple[str, ...]) -> None:
    dataset = _coco(tmp_path, names)
    with pytest.raises(DataError, match=r"a\.json: category 'cat' is not in"):
        dataset.truth("val", dataset.images("val"))


@pytest.mark.parametrize(
    ("change", "want"),
    [
        pytest.param({"bbox": [0, 0, 5]}, "bbox must be 4 numbers", id="three numbers"),
        pytest.param({"bbox": None}, "bbox must be 4 numbers", id="no box"),
        pytest.param({"bbox": [0, 0, float("nan"), 5]}, "NaN or not a number", id="NaN"),
        pytest.param({"bbox": [0, 0, "5", 5]}, "NaN or not a number", id="text"),
        pytest.param({"bbox": [0, 0, 0, 5]}, "box is empty or outside", id="no width"),
        pytest.param({"bbox": [200, 0, 9, 5]}, "box is empty or outside", id="outside"),
        pytest.param({"category_id": 4}, "category 4 is not in", id="unknown category"),
        pytest.param({"image_id": 8}, "image 8 is not in the list", id="unknown image"),
        pytest.param({"image_id": "09"}, "image '09' is not in the list", id="another text"),
        pytest.param({"iscrowd": "maybe"}, "iscrowd is 'maybe'", id="crowd or not"),
        pytest.param({"bbox": [], "segmentation": [["a"]]}, "NaN or not a number", id="outline"),
        pytest.param(
            {"bbox": None, "segmentation": {"counts": "x"}}, "bbox must be 4 numbers", id="mask"
        ),
    ],
)
def test_bad_annotations(tmp_path: Path, change: dict[str, Any], want: str) -> None:
    bad = {"id": 8, "image_id": 9, "category_id": 3, "bbox": [0, 0, 4, 4], **change}
    dataset = _coco(tmp_path, annotations=[bad])
    truth, report = dataset.truth("val", dataset.images("val"))
    assert len(truth.boxes) == 0
    assert f"1 labels skipped (annotation 8: {want}" in report.lines()[0]


@pytest.mark.parametrize(
    ("change", "want"),
    [
        ({"images": [{"id": 1, "file_name": "z.png"}]}, "lists none of the images, such as c.png"),
        ({"annotations": None}, "list `annotations` is missing"),
        ({"annotations": [{"id": 1}]}, r"entry 0 of `annotations` has no usable `image_id` \(None"),
        ({"annotations": [7]}, "entry 0 of `annotations` is int"),
        ({"categories": [{"id": [], "name": "a"}]}, r"entry 0 of `categories` has no usable `id`"),
        ({"images": [{"id": 1, "file_name": f"{n}.png"} for n in "ab"]}, "id 1 occurs twice"),
    ],
)
def test_json_that_does_not_fit(tmp_path: Path, change: dict[str, Any], want: str) -> None:
    dataset = _coco(tmp_path, **change)
    with pytest.raises(DataError, match=want):
        dataset.truth("val", dataset.images("val"))


def test_image_size_that_is_no_number_is_not_used(tmp_path: Path) -> None:
    entry = {"id": 9, "file_name": "val/a.png", "width": "64", "height": float("nan")}
    label = {"id": 1, "image_id": 9, "category_id": 3, "bbox": [0, 0, 900, 800]}
    dataset = _coco(tmp_path, images=[entry], annotations=[label])
    truth, _ = dataset.truth("val", dataset.images("val"))
    assert truth.boxes.tolist() == [[0, 0, 900, 800]]


def test_txt_and_json_agree_on_photographs(coco_mini: Path) -> None:
    plain = read_dataset(coco_mini / "data.yaml")
    images = plain.images("val")
    with_json = Dataset(
        plain.file, plain.names, None, plain.splits, {"val": coco_mini / "annotations" / "dev.json"}
    )
    a, report = plain.truth("val", images)
    b, _ = with_json.truth("val", images)
    assert (report.boxes, int(b.crowd.sum()), len(b.boxes)) == (1316, 11, 1327)
    for image in range(len(images)):
        mine = a.boxes[a.image == image]
        other = b.boxes[(b.image == image) & ~b.crowd]
        distance = np.abs(mine[:, None] - other[None]).max(axis=2)
        assert distance.min(axis=1).max() < 1e-2
        kinds = b.classes[(b.image == image) & ~b.crowd][distance.argmin(axis=1)]
        np.testing.assert_array_equal(kinds, a.classes[a.image == image])
