"""From files to detections with a known detector, and the published figure on real images."""

import numpy as np
import pytest
import torch
from fake_predictor import FakePredictor, write_images

from yoloq.base.errors import DataError
from yoloq.data.dataset import read_dataset
from yoloq.data.formats.coco import read as read_coco_labels
from yoloq.engines.predictor import ModelInfo
from yoloq.engines.torch import predictor_of
from yoloq.measure.ap import score
from yoloq.measure.evaluate import detect, figures
from yoloq.models.load import load_model

IN_ORIGINAL = [12, 0, 52, 20]  # 6 6 26 26 in the letterbox: half the size, 16 rows of grey on top


@pytest.mark.parametrize("workers", [0, 2])
def test_boxes_are_in_pixels_of_the_original_in_the_order_of_the_files(tmp_path, workers):
    files = write_images(tmp_path, [0, 255, 0, 255, 255])
    predictor = FakePredictor()
    found = detect(predictor, files, imgsz=64, batch_size=2, workers=workers)
    assert found.images == 5
    assert found.image.tolist() == [0, 1, 2, 3, 4]
    assert found.classes.tolist() == [0, 1, 0, 1, 1]
    np.testing.assert_allclose(found.boxes, [IN_ORIGINAL] * 5, atol=1e-4)
    np.testing.assert_allclose(found.scores, 1 / (1 + np.exp(-10)) ** 2, rtol=1e-4)
    assert sum(predictor.batches) == 5
    assert max(predictor.batches) == 2


def test_unreadable_images_have_no_detections_and_are_named(tmp_path, capsys):
    files = write_images(tmp_path, [0, None, 255])
    skipped = []
    found = detect(FakePredictor(), files, imgsz=64, workers=0, skipped=skipped)
    assert found.images == 3
    assert found.image.tolist() == [0, 2]
    assert skipped == [files[1]]
    assert f"1 of 3 images cannot be read; skipped: {files[1]}" in (capsys.readouterr().err)


def test_the_remedy_of_an_image_that_was_not_fetched_is_said(tmp_path, capsys):
    files = write_images(tmp_path, [0, 255])
    files[1].write_text("version https://git-lfs.github.com/spec/v1\n")
    detect(FakePredictor(), files, imgsz=64, workers=0)
    assert "the first is a Git LFS pointer and not the file itself" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"run `git lfs pull`; none of 1 images can be read"):
        detect(FakePredictor(), files[1:], imgsz=64, workers=0)


def test_no_readable_image_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"0\.png: cannot be read"):
        detect(FakePredictor(), write_images(tmp_path, [None, None]), imgsz=64, workers=0)


def test_nothing_found_is_an_empty_set(tmp_path):
    found = detect(FakePredictor(), write_images(tmp_path, [0]), imgsz=64, workers=0, conf=0.99999)
    assert found.boxes.shape == (0, 4)
    assert found.images == 1


def test_progress_is_one_line_where_stderr_is_no_terminal(tmp_path, capsys):
    files = write_images(tmp_path, [0, 0])
    detect(FakePredictor(), files, imgsz=64, workers=0, title="evaluate")
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("evaluate: 2 images, ")
    assert output.err.count("\n") == 1
    detect(FakePredictor(), files, imgsz=64, workers=0, progress=False)
    assert capsys.readouterr().err == ""


@pytest.fixture
def one_thread():
    """Let torch use one core: on a busy machine its threads spend most of their time waiting."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_official_checkpoint_scores_its_published_figure(coco_mini):
    """YOLOv5's own code gives AP 30.45 and AP50 48.62 on these images."""
    model = load_model(coco_mini / "yolov5n.pt")
    images = read_dataset(coco_mini / "data.yaml").images("val")
    found = detect(TorchPredictor(model), images, imgsz=640, batch_size=8, progress=False)
    truth, _ = read_coco_labels(coco_mini / "annotations" / "dev.json", model.names, images)
    result = score(truth, found, len(model.names))
    assert 100 * result.map50_95 == pytest.approx(30.45, abs=0.15)
    assert 100 * result.map50 == pytest.approx(48.62, abs=0.2)


@pytest.mark.usefixtures("one_thread")
def test_a_stranger_s_checkpoint_scores_what_its_author_measured(real):
    """By YOLOv5's metric the author has AP 64.54; COCO's on the same detections is 64.3."""
    model = load_model(real / "crops" / "yolov5n_crops.pt")
    result = figures(predictor_of(model, 320, "cpu"), read_dataset(real / "crops" / "data.yaml"))
    assert result.images == 355
    assert 100 * result.map50_95 == pytest.approx(64.3, abs=0.2)


class TorchPredictor:
    """The network in plain torch, channels last as the images come."""

    float_type = "f32"

    def __init__(self, model):
        self.net = model.net.to(memory_format=torch.channels_last)
        self.model = ModelInfo(model.head, model.names, imgsz=640)

    @torch.inference_mode()
    def __call__(self, images):
        batch = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
        return [level.numpy() for level in self.net(batch)]
