"""A data set as others would write it: the labels mean the same things, or the set is refused.

Random orders, renamings and label formats; the expectation is the truth of the original set, by
the model's own numbers. Never another figure: equal truths give equal AP.
"""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import hypothesis.strategies as st
import numpy as np
import pytest
import yaml
from hypothesis import event, example, given
from reordered_set import reordered

from yoloq.base.errors import DataError
from yoloq.data.dataset import read_dataset
from yoloq.geometry.detections import GroundTruth

NAMES = ("person", "Bicycle", "car", "traffic light", "dog")
RENAMES = {
    "same": str,
    "upper case": str.upper,
    "blanks": lambda name: f"  {name} ",
    "title": str.title,
}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three images of five classes, each box of a size of its own."""
    root = tmp_path_factory.mktemp("original")
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        for folder in ("images", "labels"):
            (root / folder / split).mkdir(parents=True)
        for index in range(3):
            pixels = random.integers(0, 255, (40, 60, 3), dtype=np.uint8)
            cv2.imwrite(str(root / "images" / split / f"{index}.png"), pixels)
            rows = [f"{c} 0.5 0.5 {0.1 + 0.1 * c} {0.2 + 0.1 * index}" for c in range(5)]
            (root / "labels" / split / f"{index}.txt").write_text("\n".join(rows[index:]))
    document = {"path": str(root), "train": "images/train", "val": "images/val"}
    (root / "data.yaml").write_text(yaml.safe_dump({**document, "names": list(NAMES)}))
    return root / "data.yaml"


def truth(data: Path) -> GroundTruth:
    """Labels of val by the numbers of a model with the original names."""
    dataset = read_dataset(data).ordered_as(NAMES)
    return dataset.truth("val", dataset.images("val"))[0]


def boxes(found: GroundTruth) -> list[tuple[float, ...]]:
    """Image, class and corners of each box, to a hundredth of a pixel, in order."""
    columns = (found.image, found.classes, *found.boxes.round(2).T)
    return sorted(zip(*(column.tolist() for column in columns), strict=True))


@given(
    order=st.permutations(range(5)),
    rename=st.sampled_from(sorted(RENAMES)),
    as_json=st.booleans(),
    form=st.sampled_from(["list", "numbers", "quoted numbers"]),
)
@example(order=[4, 3, 2, 1, 0], rename="upper case", as_json=True, form="quoted numbers")
def test_names_in_another_order_are_the_same_set(
    original: Path, order: Sequence[int], rename: str, as_json: bool, form: str
) -> None:
    with TemporaryDirectory() as folder:
        data = reordered(original, Path(folder) / "set", order, RENAMES[rename], as_json)
        document = yaml.safe_load(data.read_text())
        if form != "list":
            key = str if form == "quoted numbers" else int
            document["names"] = {key(i): name for i, name in enumerate(document["names"])}
            data.write_text(yaml.safe_dump(document))
        assert boxes(truth(data)) == boxes(truth(original))


@given(
    order=st.permutations(range(5)),
    renamed=st.integers(0, 4),
    to=st.sampled_from(["lorry", "CAR", "car", "bicycle", "class2", ""]),
    as_json=st.booleans(),
)
def test_one_other_name_never_moves_the_others(
    original: Path, order: Sequence[int], renamed: int, to: str, as_json: bool
) -> None:
    """The classes that kept their names have their boxes, or the set is refused."""
    with TemporaryDirectory() as folder:

        def rename(name: str) -> str:
            return to if name == NAMES[renamed] else name

        data = reordered(original, Path(folder) / "set", order, rename, as_json)
        try:
            found = truth(data)
        except DataError as error:
            event("refused")
            message = str(error)
        else:
            event("read")
            wanted = boxes(truth(original))
            kept = {NAMES.index(name) for name in NAMES if name != NAMES[renamed]}
            for number in kept:
                assert [b for b in boxes(found) if b[1] == number] == [
                    b for b in wanted if b[1] == number
                ]
            return
    assert "\n" not in message
