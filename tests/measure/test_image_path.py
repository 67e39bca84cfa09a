"""Boxes of several images at once: the order, who runs when, and how it ends."""

import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from fake_predictor import FakePredictor, write_images

from yoloq.base.errors import DataError, EngineError
from yoloq.measure import image_path
from yoloq.measure.image_path import ImagePath

PATIENCE = 20  # seconds until a test that waits for another thread has failed
SHADES = [0, 255, 255, 0, 255, 0, 0, 255, 0]


class Watched(FakePredictor):
    """Calls a function before each run, and notes which runs are inside."""

    def __init__(self, before=lambda images: None):
        super().__init__()
        self.before = before
        self.inside = 0
        self.most = 0
        self.threads = set()

    def __call__(self, images):
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.threads.add(threading.get_ident())
        self.before(images)
        self.inside -= 1
        return super().__call__(images)


def sleeping(images):
    """Bright images take longer: were results taken as they come, the dark ones would overtake."""
    time.sleep(0.02 * images[0, 32, 32, 0] / 255)


def boxes_of(found):
    return [(item.classes.tolist(), item.boxes.tolist()) for item in found]


@pytest.mark.parametrize("streams", [1, 2, 3])
def test_boxes_come_in_the_order_of_the_images(streams: int, tmp_path: Path) -> None:
    files = write_images(tmp_path, SHADES)
    predictors = [Watched(sleeping) for _ in range(streams)]
    found = ImagePath(predictors).all(files)
    # 6 6 26 26 in the square of 64, of an image of 128 x 64 that lies 16 below its top
    box = [12.0, 0.0, 52.0, 20.0]
    assert boxes_of(found) == [
        ([int(shade > 128)], [pytest.approx(box, abs=0.01)]) for shade in SHADES
    ]
    assert sum(len(each.batches) for each in predictors) == len(SHADES)
    assert all(set(each.batches) <= {1} for each in predictors)


def test_no_engine_runs_twice_at_once_and_each_keeps_to_few_threads(tmp_path: Path) -> None:
    predictor = Watched(lambda images: time.sleep(0.002))
    path = ImagePath([predictor])
    path.all(write_images(tmp_path, SHADES))
    assert predictor.most == 1
    assert len(predictor.threads) == 1


def test_a_path_can_be_called_from_several_threads(tmp_path: Path) -> None:
    predictor = Watched(lambda images: time.sleep(0.002))
    path, [file] = ImagePath([predictor]), write_images(tmp_path, [255])
    threads = [threading.Thread(target=path, args=(file,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(predictor.batches) == 4 and predictor.most == 1


def test_as_many_images_as_streams_are_in_the_engine_at_once(tmp_path: Path) -> None:
    together = threading.Barrier(3, timeout=PATIENCE)
    predictors = [Watched(lambda images: together.wait()) for _ in range(3)]
    assert len(ImagePath(predictors).all(write_images(tmp_path, SHADES))) == 9


def test_the_next_image_is_read_while_the_engine_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, second, read = write_images(tmp_path, [0, 255]), threading.Event(), image_path.read_image

    def noting(file):
        if file == files[1]:
            second.set()
        return read(file)

    monkeypatch.setattr(image_path, "read_image", noting)
    waited = []
    predictor = Watched(lambda images: waited.append(second.wait(PATIENCE)))
    assert boxes_of(ImagePath([predictor]).all(files))[1][0] == [1]
    assert waited == [True, True]


def test_arrays_and_an_empty_list(tmp_path: Path) -> None:
    path = ImagePath([FakePredictor()])
    bright = np.full((64, 128, 3), 255, np.uint8)
    one, other = path.all([bright, write_images(tmp_path, [255])[0]])
    assert boxes_of([one]) == boxes_of([other])
    assert path.all([]) == []


def test_the_first_broken_image_is_named_and_no_thread_is_left(tmp_path: Path) -> None:
    before = threading.active_count()
    predictor = Watched()
    path = ImagePath([predictor, predictor])
    files = write_images(tmp_path, [0, None, 0, None, *[0] * 40])
    with pytest.raises(DataError, match=r"1\.png: cannot be read as an image; check the file"):
        path.all(files)
    assert threading.active_count() == before
    assert len(path.all(files[:1])) == 1, "the path goes on working"


def test_an_error_of_the_engine_reaches_the_caller(tmp_path: Path) -> None:
    def failing(images):
        raise EngineError("the GPU has gone")

    before = threading.active_count()
    predictor = Watched(failing)
    path, files = ImagePath([predictor]), write_images(tmp_path, [0] * 30)
    with pytest.raises(EngineError, match="the GPU has gone"):
        path.all(files)
    assert threading.active_count() == before
    predictor.before = lambda images: None
    assert len(path.all(files)) == 30, "the engine is idle again"


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_ends_it_soon_and_leaves_no_thread(tmp_path: Path) -> None:
    def interrupting(images):
        if len(predictor.batches) == 2:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        time.sleep(0.01)

    before = threading.active_count()
    predictor = Watched(interrupting)
    files = write_images(tmp_path, [0]) * 500
    with pytest.raises(KeyboardInterrupt):
        ImagePath([predictor]).all(files)
    assert threading.active_count() == before
    assert len(predictor.batches) < 100
