"""A data set and a checkpoint small enough to run every stage in seconds."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from yoloq.models.load import new_model, save_model
from yoloq.models.yolov5.layout import v6_spec

NAMES = ("dark", "bright")


@dataclass(frozen=True)
class TinySet:
    """Paths of the checkpoint and the data yaml."""

    weights: Path
    data: Path

    def flags(self, project: Path, *more: str) -> list[str]:
        """Command line of a stage on this set, in this process and on the CPU."""
        where = ["--weights", str(self.weights), "--data", str(self.data), "--workers", "0"]
        return self.run_flags(project, *where, *more)

    def run_flags(self, project: Path, *more: str) -> list[str]:
        """The same of a stage that takes all else from the run folder."""
        return ["--project", str(project), "--name", "run", "--device", "cpu", *more]

    @property
    def pictures(self) -> Path:
        """Folder of the images of val."""
        return self.data.parent / "images" / "val"


def make_tiny_set(folder: Path, images: int = 6) -> TinySet:
    """Bright and dark squares on grey, one an image, in both splits."""
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        for index in range(images):
            write_example(folder, split, index, random)
    data = folder / "tiny.yaml"
    data.write_text(
        f"path: {folder}\ntrain: images/train\nval: images/val\nimgsz: 64\nnames: {list(NAMES)}\n"
    )
    torch.manual_seed(0)
    spec = v6_spec("n", len(NAMES)) | {"width_multiple": 0.125}
    model = new_model("yolov5", spec, NAMES)
    settle_batch_norm(model.net)
    weights = folder / "tiny.pt"
    save_model(weights, model)
    return TinySet(weights, data)


def settle_batch_norm(net: torch.nn.Module, largest_stride: int = 32) -> None:
    """Give random weights activations of unit variance, so that images differ in the outputs."""
    side = 2 * largest_stride
    with torch.no_grad():
        net.train()(torch.rand(32, 3, side, side))
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0
        net(torch.rand(32, 3, side, side))
        for head in net.detect.m:
            weight, bias = head.weight.view(3, 7, -1), head.bias.view(3, 7)
            weight[:, :4] *= 0.1  # boxes near their anchors, inside the image
            weight[:, 4:] *= 5  # scores from sure to unsure
            bias.zero_()[:, 4] = -2
    net.eval()


def write_example(folder: Path, split: str, index: int, random: np.random.Generator) -> None:
    """One 64 x 64 image with its label."""
    category = index % 2
    left, top = random.integers(4, 30, 2)
    image = random.integers(90, 150, (64, 64, 3), np.uint8)
    image[top : top + 24, left : left + 24] = (20, 230)[category]
    for name in ("images", "labels"):
        (folder / name / split).mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / "images" / split / f"{index}.png"), image)
    row = f"{category} {(left + 12) / 64} {(top + 12) / 64} {24 / 64} {24 / 64}\n"
    (folder / "labels" / split / f"{index}.txt").write_text(row)
