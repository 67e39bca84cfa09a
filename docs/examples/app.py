"""Boxes of photographs by an engine that `make engine` or `yoloq.build` wrote.

python app.py runs/yolov5s-coco/openvino-int8.xml photo.jpg more.jpg
"""

import sys
from pathlib import Path

from yoloq.engines import get_engine
from yoloq.measure.detector import Detector


def open_detector(file: Path, threads: int = 0) -> Detector:
    """The detector of an engine file; its name says engine and precision."""
    name, _, precision = file.stem.partition("-")
    engine = get_engine(name)
    device = "cuda" if "cpu" not in engine.devices else "cpu"
    return Detector(engine.load(file, precision, device, threads))


def main() -> None:
    file, *photos = sys.argv[1:]
    detector = open_detector(Path(file))
    for photo, boxes in zip(photos, detector(photos), strict=True):
        for box in boxes:
            corners = " ".join(f"{value:.0f}" for value in (box.x1, box.y1, box.x2, box.y2))
            print(f"{photo}: {box.name} {box.score:.2f} at {corners}")


if __name__ == "__main__":
    main()
