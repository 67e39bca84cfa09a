"""Boxes as files that other programs read: YOLO's txt, a COCO document."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

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


@dataclass
class CocoDocument:
    """Images and their boxes, as COCO's annotation files have them; scores are an extra field.

    Ids count from 1, as in COCO: class c of the model is category c + 1.
    """

    names: Sequence[str]
    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)

    def add(self, file: str, height: int, width: int, found: Candidates) -> None:
        """One more image with its boxes; corners are in its pixels."""
        image = len(self.images) + 1
        self.images.append({"id": image, "file_name": file, "height": height, "width": width})
        for box, score, number in zip(found.boxes, found.scores, found.classes, strict=True):
            x1, y1, x2, y2 = (round(value, 2) for value in box.tolist())
            sides = (round(x2 - x1, 2), round(y2 - y1, 2))
            self.annotations.append(
                {
                    "id": len(self.annotations) + 1,
                    "image_id": image,
                    "category_id": int(number) + 1,
                    "bbox": [x1, y1, *sides],
                    "area": round(sides[0] * sides[1], 2),
                    "iscrowd": 0,
                    "score": round(float(score), 5),
                }
            )

    def to_json(self) -> dict[str, Any]:
        """The whole document."""
        kinds = [{"id": index + 1, "name": name} for index, name in enumerate(self.names)]
        return {"images": self.images, "annotations": self.annotations, "categories": kinds}
