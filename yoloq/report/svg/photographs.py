"""A photograph twice, with the boxes of one model and of another, what only one finds set off."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import cv2

from yoloq.geometry.boxes import Image
from yoloq.geometry.detections import Detections
from yoloq.measure.lost import Change
from yoloq.report.svg.elements import Point, element, rectangle, text, width_of
from yoloq.report.svg.name_places import Box

SIDE = 480  # pixels of the longer side of a picture in the page
QUALITY = 80  # of its JPEG
PLATE = 18.0  # pixels, height of a label


@dataclass(frozen=True)
class Pane:
    """One of the two pictures: its title, and the boxes of a model by their indices.

    `kept` are those that both models find, `changes` those of this one alone, called `kind`;
    `other` is the name of the other model.
    """

    title: str
    detections: Detections
    kept: Sequence[int]
    changes: Sequence[Change]
    kind: str
    other: str


def side_by_side(image: Image, name: str, panes: Sequence[Pane], names: Sequence[str]) -> str:
    """Both pictures; the photograph's data is in the first alone, under an id of that name.

    Args:
        names: of the classes.
    """
    scale = SIDE / max(image.shape[:2])
    height, width = (max(1, round(scale * side)) for side in image.shape[:2])
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    source = "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
    shown = element("image", id=name, href=source, width=width, height=height)
    drawn = []
    for pane in panes:
        boxes = _boxes(pane, names, scale, (float(width), float(height)))
        drawn.append(_drawn(pane.title, shown + boxes, (width, height)))
        shown = element("use", href=f"#{name}")
    return f'<div class="pair">{"".join(drawn)}</div>'


def _drawn(title: str, inside: str, size: tuple[int, int]) -> str:
    box = f"0 0 {size[0]} {size[1]}"
    svg = element("svg", inside, viewBox=box, role="img", aria_label=title, class_="photo")
    return f'<div><p class="pane">{escape(title)}</p>{svg}</div>'


def _boxes(pane: Pane, names: Sequence[str], scale: float, size: Point) -> str:
    found = pane.detections
    parts, labels, taken = [], [], list[Box]()
    for index in pane.kept:
        said = f"{names[found.classes[index]]} {found.scores[index]:.2f}"
        parts += _outline(found, index, scale, "kept", said)
    for change in pane.changes:
        other = f", {pane.other} {change.other:.2f}" if change.other else ""
        said = f"{pane.kind}: {names[found.classes[change.index]]} {change.score:.2f}{other}"
        parts += _outline(found, change.index, scale, pane.kind, said)
        corners = (scale * found.boxes[change.index]).tolist()
        labels.append(_label(said, corners, size, pane.kind, taken))
    return "".join([*parts, *labels])


def _outline(found: Detections, index: int, scale: float, css: str, said: str) -> list[str]:
    """A box over a dark one, so that it is seen on any ground."""
    x1, y1, x2, y2 = (scale * found.boxes[index]).tolist()
    sides = (x2 - x1, y2 - y1)
    return [
        rectangle((x1, y1), *sides, f"box halo {css}"),
        rectangle((x1, y1), *sides, f"box {css}", said),
    ]


def _label(words: str, corners: list[float], size: Point, css: str, taken: list[Box]) -> str:
    """Above, below or in the box, where no other label is; never beyond the picture."""
    width = 0.9 * width_of(words, 13) + 8
    x = max(0.0, min(corners[0], size[0] - width))
    tops = [corners[1] - PLATE, corners[3], corners[1], *(corners[3] + PLATE * i for i in (1, 2))]
    offers = [Box(x, top, x + width, top + PLATE) for top in tops]
    inside = [box for box in offers if box.top >= 0 and box.bottom <= size[1]] or offers[2:3]
    free = [box for box in inside if not any(box.meets(other) for other in taken)]
    place = (free or inside)[0]
    taken.append(place)
    plate = rectangle((place.left, place.top), width, PLATE, f"plate {css}")
    return plate + text(place.left + 4, place.top + 13, words, "plate-text")
