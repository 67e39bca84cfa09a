"""Boxes as files that other programs read: YOLO's txt, a COCO document."""

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from yoloq.models.heads.decode import Candidates


def yolo_lines(found: Candidates, height: int, width: int, scores: bool = False) -> str:
    """A line a box: class, centre x, centre y, width and height as shares of the image's.

    Args:
        found: corners in pixels of the image.
        scores: add the score, as a sixth number.
    """
    lines = []
    for box, score, number in zip(found.boxes, found.scores, found.classes, strict=True):
        x1, y1, x2, y2 = box.tolist()
        shares = [(x1 + x2) / 2 / width, (y1 + y2) / 2 / height]
        shares += [(x2 - x1) / width, (y2 - y1) / height]
        shares += [float(score)] if scores else []
        numbers = [f"{share:.6f}" for share in shares]
        lines.append(" ".join([str(int(number)), *numbers]) + "\n")
    return "".join(lines)


class CocoFile:
    """Images and their boxes, as COCO's annotation files have them; scores are an extra field.

    Ids count from 1, as in COCO: class c of the model is category c + 1. All goes to the disk at
    once, for a camera has no end.

    Args:
        stream: of the file.
        aside: of another one, in which the list of images grows beside that of boxes.
    """

    def __init__(self, names: Sequence[str], stream: TextIO, aside: TextIO) -> None:
        self.names, self.stream, self.aside = names, stream, aside
        self.images = self.boxes = 0
        stream.write('{"annotations": [')

    def add(self, file: str, height: int, width: int, found: Candidates) -> None:
        """One more image with its boxes; corners are in its pixels."""
        self.images += 1
        image = {"id": self.images, "file_name": file, "height": height, "width": width}
        self.aside.write(_item(self.images, image))
        for box, score, number in zip(found.boxes, found.scores, found.classes, strict=True):
            self.boxes += 1
            x1, y1, x2, y2 = (round(value, 2) for value in box.tolist())
            sides = (round(x2 - x1, 2), round(y2 - y1, 2))
            annotation = {
                "id": self.boxes,
                "image_id": self.images,
                "category_id": int(number) + 1,
                "bbox": [x1, y1, *sides],
                "area": round(sides[0] * sides[1], 2),
                "iscrowd": 0,
                "score": round(float(score), 5),
            }
            self.stream.write(_item(self.boxes, annotation))

    def end(self) -> None:
        """Write what comes behind the boxes."""
        kinds = [{"id": index + 1, "name": name} for index, name in enumerate(self.names)]
        self.stream.write('\n], "images": [')
        self.aside.seek(0)
        shutil.copyfileobj(self.aside, self.stream)
        self.stream.write(f'\n], "categories": {json.dumps(kinds)}}}\n')


def _item(number: int, value: Mapping[str, Any]) -> str:
    """One of a list, on a line of its own."""
    return f"{',' if number > 1 else ''}\n{json.dumps(value)}"


@contextlib.contextmanager
def coco_file(file: Path, names: Sequence[str]) -> Iterator[CocoFile]:
    """Write a COCO file; it is whole when the block has ended well."""
    with (
        open(file, "w", encoding="utf-8") as stream,
        tempfile.TemporaryFile("w+", encoding="utf-8", dir=file.parent) as aside,
    ):
        made = CocoFile(names, stream, aside)
        yield made
        made.end()
