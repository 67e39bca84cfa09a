"""The usual export, to compare with: float NCHW images in, decoded boxes out of the graph."""

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from latency import pixels
from numpy.typing import NDArray
from torch import Tensor, nn

from yoloq.base.files import replace_when_whole
from yoloq.base.machine import affinity
from yoloq.engines.openvino import core
from yoloq.geometry.boxes import xywh_to_xyxy
from yoloq.geometry.nms import nms
from yoloq.models.heads.anchor import AnchorHead

OPSET = 17


class Decoded(nn.Module):
    """float (N, 3, H, W) in 0..1 -> (N, boxes, 5 + nc): xywh in pixels, objectness, classes.

    Formulas: YOLOv5 v5.0 and later, models/yolo.py, Detect:
    xy = (2 sigmoid - 0.5 + cell) * stride, wh = (2 sigmoid)^2 * anchor.
    """

    def __init__(self, net: nn.Module, head: AnchorHead, imgsz: int) -> None:
        super().__init__()
        self.net = net
        self.values = 5 + head.nc
        self.strides = head.strides
        for level, stride in enumerate(head.strides):
            cells = torch.arange(imgsz // stride, dtype=torch.float32)
            y, x = torch.meshgrid(cells, cells, indexing="ij")
            self.register_buffer(f"cells{level}", torch.stack((x, y), -1) - 0.5)
            anchors = torch.tensor(head.anchors[level]).view(1, -1, 1, 1, 2)
            self.register_buffer(f"anchors{level}", anchors)

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([self._level(i, raw) for i, raw in enumerate(self.net(images))], 1)

    def _level(self, level: int, raw: Tensor) -> Tensor:
        n, channels, height, width = raw.shape
        anchors = channels // self.values
        rows = raw.view(n, anchors, self.values, height, width).permute(0, 1, 3, 4, 2).sigmoid()
        xy, wh, scores = rows.split((2, 2, self.values - 4), -1)
        xy = (2 * xy + self.get_buffer(f"cells{level}")) * self.strides[level]
        wh = (2 * wh) ** 2 * self.get_buffer(f"anchors{level}")
        return torch.cat((xy, wh, scores), -1).view(n, anchors * height * width, self.values)


def export_decoded(net: nn.Module, head: AnchorHead, imgsz: int, file: Path) -> None:
    """Write the ONNX file of a float network with its boxes decoded."""
    decoded = Decoded(net, head, imgsz).eval()
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # a newer exporter exists
        torch.onnx.export(
            decoded,
            (torch.zeros(1, 3, imgsz, imgsz),),
            buffer,  # type: ignore[arg-type]
            input_names=["images"],
            output_names=["boxes"],
            opset_version=OPSET,
            dynamo=False,
        )
    with replace_when_whole(file) as temporary:
        temporary.write_bytes(buffer.getvalue())


def find_boxes(rows: NDArray[np.float32], conf: float, iou: float) -> tuple[Any, ...]:
    """Boxes (xyxy), scores and classes that NMS keeps of one image's rows (boxes, 5 + nc)."""
    rows = rows[rows[:, 4] > conf]
    scores = rows[:, 4:5] * rows[:, 5:]
    row, classes = np.nonzero(scores > conf)
    boxes, kept_scores = xywh_to_xyxy(rows[row, :4]), scores[row, classes]
    kept = nms(boxes, kept_scores, classes, iou)
    return boxes[kept], kept_scores[kept], classes[kept]


@dataclass(frozen=True)
class DecodedFile:
    """The usual export on OpenVINO in FP32: the graph alone, on an image that is already float.

    `to_boxes` (conf, iou) starts at the uint8 image instead, and ends with NMS.
    """

    file: Path
    image: Path
    imgsz: int
    to_boxes: tuple[float, float] | None = None

    def __call__(self) -> Callable[[], object]:
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": len(affinity()),
        }
        request = core().compile_model(self.file, "CPU", options).create_infer_request()
        image = pixels(self.image, self.imgsz)
        run = partial(request.infer, share_inputs=True)
        if self.to_boxes is None:
            return partial(run, as_float(image))
        conf, iou = self.to_boxes
        return lambda: find_boxes(next(iter(run(as_float(image)).values()))[0], conf, iou)


def as_float(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """uint8 (1, H, W, 3) -> float (1, 3, H, W) in 0..1, contiguous."""
    return np.ascontiguousarray(image.transpose(0, 3, 1, 2), dtype=np.float32) / np.float32(255)
