"""All stages on networks of other levels, activations and layers than the published ones."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_set import NAMES, TinySet, settle_batch_norm

from yoloq.__main__ import main as run
from yoloq.models.load import new_model, save_model
from yoloq.models.yolov5.layout import v6_spec

pytestmark = pytest.mark.usefixtures("one_thread")

PAIR = [10, 13, 16, 30]
ONE_LEVEL: dict[str, Any] = {
    "anchors": [[*PAIR, 33, 23]],
    "activation": "nn.Hardswish()",
    "backbone": [
        [-1, 1, "Focus", [64, 3]],
        [-1, 1, "GhostConv", [128, 3, 2]],
        [-1, 1, "Conv", [256, 3, 2, 1, 1, 1, False]],
        [-1, 1, "C3TR", [256]],
        [-1, 1, "C3x", [256]],
    ],
    "head": [[[-1], 1, "Detect", ["nc", "anchors"]]],
}
FIVE_LEVELS: dict[str, Any] = {
    "anchors": [[*PAIR, 33, 23]] * 5,
    "activation": "nn.LeakyReLU(0.1)",
    "backbone": [
        [-1, 1, "Conv", [64, 6, 2, 2]],
        [-1, 1, "Conv", [128, 3, 2]],
        [-1, 1, "Conv", [128, 3, 2]],
        [-1, 1, "C3", [128]],
        [-1, 1, "Conv", [128, 3, 2]],
        [-1, 1, "BottleneckCSP", [128]],
        [-1, 1, "Conv", [128, 3, 2]],
        [-1, 1, "DWConv", [128, 3, 2]],
        [-1, 1, "MixConv2d", [128, [1, 3], 2]],
    ],
    "head": [[[3, 5, 6, 7, 8], 1, "Detect", ["nc", "anchors"]]],
}


def made(spec: dict[str, Any], tiny: TinySet, folder: Path) -> TinySet:
    """A checkpoint of the tiny set's classes, as `make_tiny_set` makes them."""
    torch.manual_seed(0)
    whole = {**v6_spec("n", len(NAMES)), "width_multiple": 0.125, **spec}
    model = new_model("yolov5", whole, NAMES)
    settle_batch_norm(model.net, max(model.head.strides))
    save_model(folder / "other.pt", model)
    return TinySet(folder / "other.pt", tiny.data)


@pytest.mark.parametrize(
    ("spec", "imgsz", "planned"),  # convolutions but those of the head
    [(ONE_LEVEL, 64, 12), (FIVE_LEVELS, 128, 19)],
    ids=["one-level", "five-levels"],
)
def test_all_stages(
    spec: dict[str, Any],
    imgsz: int,
    planned: int,
    tiny: TinySet,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = made(spec, tiny, tmp_path)
    flags = other.flags(tmp_path, "--imgsz", str(imgsz))
    few = ("--screen", "2", "--top", "1")
    assert run("sensitivity", [*flags, *few]) == 0
    assert run("diagnose", [*flags, "--plots", "1"]) == 0
    assert run("qat", [*flags, "--epochs", "1", "--loss", "task"]) == 0
    for engine in ("openvino", "onnxruntime", "torch"):
        assert run("engine", [*flags, "--engine", engine, "--runs", "2"]) == 0
    said = capsys.readouterr().err
    for engine in ("openvino", "onnxruntime"):
        assert f"{engine} int8: {planned} of {planned} int8 convolutions run in integers" in said
