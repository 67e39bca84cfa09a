"""Images a second: what a round is, whose turn it is, and that streams count."""

import time
from pathlib import Path

import pytest
from fake_predictor import FakePredictor, write_images

from yoloq.base.errors import DataError
from yoloq.measure import latency
from yoloq.measure.image_path import ImagePath
from yoloq.measure.throughput import ROUNDS, measure_throughput


class Slow(FakePredictor):
    """Takes 20 ms an image, and notes its name in a list."""

    def __init__(self, name="", order=None, seconds=0.02):
        super().__init__()
        self.name, self.order, self.seconds = name, [] if order is None else order, seconds

    def __call__(self, images):
        self.order.append(self.name)
        time.sleep(self.seconds)
        return super().__call__(images)


def test_rounds_take_turns_and_the_files_begin_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "REST", 0.0)
    order: list[str] = []
    paths = {name: ImagePath([Slow(name, order, 0)]) for name in "ab"}
    found = measure_throughput(paths, write_images(tmp_path, [0, 255, 0]), runs=10, threads=3)
    warmup, rounds = order[:4], "".join(order[4:])
    assert warmup == ["a", "a", "b", "b"]
    assert rounds == (10 * "a" + 10 * "b") * ROUNDS
    for each in found.values():
        assert (each.streams, each.images, each.rounds, each.threads) == (1, 10, 3, 3)


def test_a_round_is_longer_where_there_are_many_streams(tmp_path: Path) -> None:
    paths = {"a": ImagePath([FakePredictor() for _ in range(4)]), "b": ImagePath([FakePredictor()])}
    found = measure_throughput(paths, write_images(tmp_path, [0]), runs=5)
    assert {name: (each.streams, each.images) for name, each in found.items()} == {
        "a": (4, 32),
        "b": (1, 32),
    }


def test_two_streams_that_wait_give_more_images_a_second(tmp_path: Path) -> None:
    paths = {"one": ImagePath([Slow()]), "two": ImagePath([Slow(), Slow()])}
    found = measure_throughput(paths, write_images(tmp_path, [0, 255]), runs=16)
    assert 5 < found["one"].fps <= 50, "20 ms an image at least"
    assert 1.3 * found["one"].fps < found["two"].fps <= 100


def test_nothing_to_time(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no image to time"):
        measure_throughput({"a": ImagePath([FakePredictor()])}, [])
    assert measure_throughput({}, [tmp_path / "0.png"]) == {}
    with pytest.raises(DataError, match=r"0\.png: cannot be read"):
        measure_throughput({"a": ImagePath([FakePredictor()])}, write_images(tmp_path, [None]))
