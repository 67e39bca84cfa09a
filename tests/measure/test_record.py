"""What a row leaves for the report comes back as it was."""

from pathlib import Path

import numpy as np
import pytest

from yoloq.geometry.detections import Detections
from yoloq.measure.record import Record, Records, above

SCORES = np.array([0.9, 0.1, 0.0999], np.float32)


def detections() -> Detections:
    boxes = np.arange(12, dtype=np.float32).reshape(3, 4)
    return Detections(3, np.array([0, 2, 2]), boxes, SCORES, np.array([0, 1, 1]))


def test_records_come_back(tmp_path: Path) -> None:
    file = tmp_path / "r.npz"
    rows = {"int8": Record(detections(), np.array([0.3, 0.31]))}
    Records(("a b.png", "\u00e9.png"), ("person", "bear"), rows).save(file)
    found = Records.load(file)
    assert found is not None
    assert found.files == ("a b.png", "\u00e9.png") and found.names == ("person", "bear")
    assert list(found.rows) == ["int8"]
    assert found.rows["int8"].found.images == 3
    np.testing.assert_array_equal(found.rows["int8"].found.boxes, detections().boxes)
    np.testing.assert_array_equal(found.rows["int8"].precision, [0.3, 0.31])


@pytest.mark.parametrize("content", [None, b"", b"not an archive"])
def test_a_missing_or_damaged_file_is_none(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "r.npz").write_bytes(content)
    assert Records.load(tmp_path / "r.npz") is None


def test_boxes_that_people_are_shown() -> None:
    kept = above(detections())
    assert kept.images == 3 and kept.image.tolist() == [0, 2] and kept.classes.tolist() == [0, 1]
