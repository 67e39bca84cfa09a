"""Class names of a data set and of a model: the same, moved, different, or none."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from yoloq.base.errors import DataError
from yoloq.data.classes import by_name, numbering
from yoloq.data.dataset import Dataset, read_dataset


@pytest.mark.parametrize(
    ("names", "wanted", "want"),
    [
        pytest.param(("cat", "dog"), ("dog", "cat"), [1, 0], id="other order"),
        pytest.param((" Cat", "DOG "), ("dog", "cat"), [1, 0], id="case and blanks"),
        pytest.param(("cat", "Cat"), ("Cat", "cat"), [1, 0], id="differ in case alone: exact"),
        pytest.param(("CAT", "dog"), ("Cat", "cat"), [None, None], id="two to choose from"),
        pytest.param(("CAT", "cat"), ("dog", "cat"), [None, 1], id="two that would fit one"),
        pytest.param(("cat", "cat"), ("cat", "dog"), [None, None], id="named twice"),
        pytest.param(("a_b",), ("a b",), [None], id="other letters"),
        pytest.param(
            ("cafe\u0301", "b"), ("b", "caf\u00e9"), [1, 0], id="accent in two characters"
        ),
        pytest.param(("traffic  light",), ("Traffic\u00a0light",), [0], id="blanks within"),
        pytest.param((), ("cat",), [], id="none"),
    ],
)
def test_by_name(names: tuple[str, ...], wanted: tuple[str, ...], want: list[int | None]) -> None:
    assert by_name(names, wanted) == want


@pytest.mark.parametrize(
    ("names", "wanted", "to"),
    [
        pytest.param(("cat", "dog", "cow"), ("dog", "cow", "cat"), (2, 0, 1), id="cycle"),
        pytest.param(("1", "0"), ("0", "1"), (1, 0), id="digits"),
        pytest.param(("Dog", "cat"), ("cat", "dog"), (1, 0), id="case"),
    ],
)
def test_moved_classes_are_mapped_and_it_is_said(
    names: tuple[str, ...], wanted: tuple[str, ...], to: tuple[int, ...]
) -> None:
    found = numbering(names, wanted, "best.pt")
    assert found is not None and found.to == to
    assert found.remark == "classes are in another order than in best.pt: labels are mapped by name"


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        pytest.param(("cat", "dog"), ("cat", "dog"), id="equal"),
        pytest.param(("cat", "dog"), ("Cat", " dog"), id="but for case and blanks"),
        pytest.param(("cat", "dog"), ("class0", "class1"), id="a checkpoint without names"),
        pytest.param(("cat", "dog"), ("0", "1"), id="a checkpoint with numbers"),
        pytest.param(("1", "2"), ("0", "1"), id="numbers from 1 and a checkpoint without names"),
        pytest.param(("class0", "class1"), ("cat", "dog"), id="a yaml without names"),
        pytest.param(("cat",), ("item",), id="what YOLOv5 calls a single class"),
        pytest.param(("cat", "dog"), ("cat", "class1"), id="one name missing"),
    ],
)
def test_nothing_is_said_where_nothing_is_wrong(
    names: tuple[str, ...], wanted: tuple[str, ...]
) -> None:
    assert numbering(names, wanted, "best.pt") is None


@pytest.mark.parametrize(
    ("names", "wanted", "to", "said"),
    [
        pytest.param(("cat", "dog"), ("cat", "cow"), (0, 1), "1 'dog' is 1 'cow' there;", id="one"),
        pytest.param(
            ("cow", "cat", "dog"),
            ("cat", "pig", "dog"),
            (1, 0, 2),
            "0 'cow' is 1 'pig' there;",
            id="the others are mapped",
        ),
        pytest.param(
            tuple("abcde"),
            tuple("vwxyz"),
            (0, 1, 2, 3, 4),
            "0 'a' is 0 'v' there, 1 'b' is 1 'w' there, 2 'c' is 2 'x' there and 2 more;",
            id="all",
        ),
        pytest.param(("item", "x"), ("cat", "x"), (0, 1), "0 'item' is 0 'cat'", id="item of two"),
    ],
)
def test_names_that_differ_are_listed(
    names: tuple[str, ...], wanted: tuple[str, ...], to: tuple[int, ...], said: str
) -> None:
    found = numbering(names, wanted, "best.pt")
    assert found is not None and found.to == to
    assert found.remark.startswith("class names differ from those of best.pt: ")
    assert said in found.remark and found.remark.endswith("these are not the same things")


BOXES = {0: [0, 0, 50, 25], 1: [40, 15, 60, 35], 2: [90, 40, 100, 50]}  # of 100 x 50 pixels


def three_classes(folder: Path, kind: str) -> Path:
    """One image with a box of each class: 0 cat, 1 dog, 2 cow; as txt or as COCO json."""
    (folder / "images").mkdir()
    cv2.imwrite(str(folder / "images" / "a.png"), np.zeros((50, 100, 3), np.uint8))
    text = "val: images\nnames: [cat, dog, cow]\n"
    if kind == "txt":
        (folder / "labels").mkdir()
        rows = ["0 .25 .25 .5 .5", "1 .5 .5 .2 .4", "2 .95 .9 .1 .2"]
        (folder / "labels" / "a.txt").write_text("\n".join(rows))
    else:
        boxes = [(x1, y1, x2 - x1, y2 - y1) for x1, y1, x2, y2 in BOXES.values()]
        document = {
            "images": [{"id": 1, "file_name": "a.png", "width": 100, "height": 50}],
            "categories": [{"id": i, "name": n} for i, n in ((7, "cow"), (8, "dog"), (9, "cat"))],
            "annotations": [
                {"image_id": 1, "category_id": 9 - index, "bbox": box}
                for index, box in enumerate(boxes)
            ],
        }
        (folder / "a.json").write_text(json.dumps(document))
        text += "annotations: {val: a.json}\n"
    (folder / "data.yaml").write_text(text)
    return folder / "data.yaml"


def classes_of_boxes(dataset: Dataset) -> list[int]:
    """Class of the boxes of cat, dog and cow."""
    truth, _ = dataset.truth("val", dataset.images("val"))
    by_box = dict(
        zip(map(tuple, truth.boxes.round().tolist()), truth.classes.tolist(), strict=True)
    )
    return [by_box[tuple(box)] for box in BOXES.values()]


@pytest.mark.parametrize("kind", ["txt", "json"])
def test_labels_become_the_model_s_classes(tmp_path: Path, kind: str) -> None:
    dataset = read_dataset(three_classes(tmp_path, kind))
    assert classes_of_boxes(dataset) == [0, 1, 2]
    model = dataset.ordered_as(("cow", "cat", "dog"), "best.pt")
    assert model.names == ("cow", "cat", "dog")
    assert classes_of_boxes(model) == [1, 2, 0]
    [line] = model.truth("val", model.images("val"))[1].lines()
    assert line == (
        f"{tmp_path / 'data.yaml'}: classes are in another order than in best.pt: "
        "labels are mapped by name"
    )
    assert model.sha256 == dataset.sha256  # the model counts by its own hash


def test_another_order_after_the_first_starts_from_the_labels_again(tmp_path: Path) -> None:
    dataset = read_dataset(three_classes(tmp_path, "txt"))
    twice = dataset.ordered_as(("cow", "cat", "dog")).ordered_as(("dog", "cow", "cat"))
    assert classes_of_boxes(twice) == [2, 0, 1]
    assert twice.ordered_as(("cat", "dog", "cow")).numbering is None


@pytest.mark.parametrize("kind", ["txt", "json"])
@pytest.mark.parametrize("names", ["[cat, dog, cow]", "[thing]"])
def test_a_set_as_one_class(tmp_path: Path, kind: str, names: str) -> None:
    """Even where the yaml names fewer classes than the labels use."""
    file = three_classes(tmp_path, kind)
    file.write_text(file.read_text().replace("[cat, dog, cow]", names))
    dataset = read_dataset(file)
    one = dataset.as_one_class()
    assert one.names == (("thing",) if names == "[thing]" else ("item",))
    assert classes_of_boxes(one.ordered_as(("whatever",))) == [0, 0, 0]
    assert one.truth("val", one.images("val"))[1].lines() == []
    assert one.sha256 != dataset.sha256


@pytest.mark.parametrize("kind", ["txt", "json"])
def test_a_model_of_many_classes_for_a_set_of_one(tmp_path: Path, kind: str) -> None:
    """Its own name stays: figures are of one class, whatever the number of the model's."""
    one = read_dataset(three_classes(tmp_path, kind)).as_one_class()
    for names in (("a", "b"), ("cow", "cat", "dog")):
        model = one.ordered_as(names, "best.pt")
        assert (model.names, model.one_class) == (("item",), True)
        assert classes_of_boxes(model) == [0, 0, 0]
        [line] = model.truth("val", model.images("val"))[1].lines()
        assert line == (
            f"{tmp_path / 'data.yaml'}: --single-cls: its labels and the {len(names)} classes of "
            "best.pt count as one"
        )
    assert model.ordered_as(("whatever",)).truth("val", model.images("val"))[1].lines() == []


@pytest.mark.parametrize(
    ("names", "told"),
    [
        pytest.param("abcd", r"best\.pt has 4, none of them named '\w+'; give", id="4"),
        pytest.param("a", r"best\.pt has 1; give the data set that", id="1"),
    ],
)
def test_another_number_of_classes(tmp_path: Path, names: str, told: str) -> None:
    dataset = read_dataset(three_classes(tmp_path, "txt"))
    with pytest.raises(DataError, match=rf"has 3 classes, but {told}.* or add --single-cls"):
        dataset.ordered_as(tuple(names), "best.pt")


@pytest.mark.parametrize("form", ["txt", "json"])
def test_some_of_a_models_classes_go_by_name(tmp_path: Path, form: str) -> None:
    """A set of three of the five classes that the model has, as an extract of COCO is."""
    dataset = read_dataset(three_classes(tmp_path, form))
    names = ("other", *reversed(dataset.names), "more")
    found = dataset.ordered_as(names, "best.pt")
    images = dataset.images("val")
    before, after = dataset.truth("val", images)[0], found.truth("val", images)
    assert [names[number] for number in after[0].classes] == [
        dataset.names[number] for number in before.classes
    ]
    assert found.names == names
    [remark] = [line for line in after[1].lines() if "best.pt" in line]
    assert "has 3 of the 5 classes of best.pt: labels are mapped by name" in remark
