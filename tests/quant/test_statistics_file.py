"""Calibration statistics on disk."""

from pathlib import Path

import numpy as np
import pytest

from yoloq.quant.observer import Collected
from yoloq.quant.statistics import Statistics
from yoloq.quant.statistics_file import load_statistics, save_statistics

SEEN = Collected(
    inputs={
        "model.0.conv": Statistics(
            low=-0.1,
            high=1 / 3,
            counts=np.array([3, 0, 5]),
            means=np.array([0.1, 0.2], np.float32),
            deviations=np.array([1.0, 2.0], np.float32),
        )
    },
    outputs={"model.0.conv": (-1.5, 1e-9), "model.1.m.0": (0.0, 7.25)},
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "folder" / "statistics.npz"
    save_statistics(file, SEEN, "key")
    return file


def test_round_trip_is_exact(file: Path) -> None:
    found = load_statistics(file, "key")
    assert found is not None
    assert found.outputs == SEEN.outputs
    (name, statistics), (_, wanted) = (*found.inputs.items(), *SEEN.inputs.items())
    assert name == "model.0.conv"
    assert (statistics.low, statistics.high) == (wanted.low, wanted.high)
    for field in ("counts", "means", "deviations"):
        np.testing.assert_array_equal(getattr(statistics, field), getattr(wanted, field))
    assert [item.name for item in file.parent.iterdir()] == [file.name], "nothing else is left"


def test_another_key_is_a_miss(file: Path) -> None:
    assert load_statistics(file, "other") is None


def test_missing_file_is_a_miss(tmp_path: Path) -> None:
    assert load_statistics(tmp_path / "none.npz", "key") is None


@pytest.mark.parametrize("keep", [0, 4, 300], ids=["empty", "a few bytes", "truncated"])
def test_damaged_file_is_a_miss(file: Path, keep: int) -> None:
    file.write_bytes(file.read_bytes()[:keep])
    assert load_statistics(file, "key") is None


def test_file_of_another_layout_is_a_miss(file: Path) -> None:
    np.savez(file, **{"key": np.array("key"), "input/model.0.conv/counts": np.zeros(3)})
    assert load_statistics(file, "key") is None
