"""The built-in checkpoints: present, small, and made for the built-in set."""

import pytest
import torch

from yoloq.base.own_files import ROOT
from yoloq.data.shapes import CLASSES
from yoloq.models.load import load_model

FOLDER = ROOT / "weights"


@pytest.mark.parametrize(
    ("name", "family", "channels"),
    [("yolov5n.pt", "yolov5", 3 * (5 + 10)), ("yolov5nu.pt", "ultralytics", 4 * 16 + 10)],
)
def test_built_in_weights_fit_the_built_in_set(name: str, family: str, channels: int) -> None:
    model = load_model(FOLDER / name)
    assert (model.family, model.imgsz, model.names) == (family, 320, tuple(CLASSES))
    with torch.inference_mode():
        raws = model.net(torch.zeros(1, 3, 64, 64))
    assert [tuple(raw.shape) for raw in raws] == [(1, channels, n, n) for n in (8, 4, 2)]
    assert all(raw.dtype == torch.float32 and raw.isfinite().all() for raw in raws)


def test_built_in_weights_are_small() -> None:
    assert sum(file.stat().st_size for file in FOLDER.glob("*.pt")) < 10e6
