"""Boxes drawn into a picture, with names and scores that can be read at any size."""

import functools
import importlib.util
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from yoloq.geometry.boxes import Image
from yoloq.models.heads.decode import Candidates

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

Colour = tuple[int, int, int]
Rectangle = tuple[float, float, float, float]

COLOURS: tuple[Colour, ...] = (  # of the classes in turn; Okabe and Ito's, for all kinds of eyes
    *((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66)),
    *((0, 114, 178), (213, 94, 0), (204, 121, 167)),
)
DARK, LIGHT = (20, 20, 20), (250, 250, 250)
LEAST_SIDE = 640  # pixels; a smaller picture is enlarged by a whole number, to hold its labels
LINE, TEXT = 0.003, 0.019  # shares of the mean side
LEAST_LINE, LEAST_TEXT = 2, 12  # pixels
FONT = "mpl-data/fonts/ttf/DejaVuSans.ttf"  # matplotlib's: Latin, Greek and Cyrillic


def draw_boxes(
    image: Image, found: Candidates, names: Sequence[str], alone: Collection[int] = ()
) -> Image:
    """A picture of an image with its boxes, the best on top.

    Args:
        image: uint8 (H, W, 3) RGB; it stays as it is.
        found: boxes in its pixels.
        names: of the classes.
        alone: positions of boxes that no other model has, which get a white frame.

    Returns:
        uint8 (k H, k W, 3); k is above 1 where the image is small.
    """
    from PIL import Image as Pillow
    from PIL import ImageDraw

    factor = max(1, round(LEAST_SIDE / max(image.shape[:2])))
    height, width = (factor * side for side in image.shape[:2])
    picture = Pillow.fromarray(image).resize((width, height), Pillow.Resampling.BICUBIC)
    canvas = ImageDraw.Draw(picture)
    line, font = _line(height, width), _font(_text(height, width))
    taken: list[Rectangle] = []
    labels = []
    for index in np.argsort(found.scores, kind="stable").tolist():  # the best is drawn last
        corners = (factor * found.boxes[index]).round().tolist()
        number = int(found.classes[index])
        colour = COLOURS[number % len(COLOURS)]
        _outline(canvas, corners, colour, line, index in alone)
        labels.append((corners, colour, f"{names[number]} {found.scores[index]:.2f}"))
    for corners, colour, text in reversed(labels):  # the best chooses its place first
        place = _place(corners, canvas.textbbox((0, 0), text, font=font), line, taken, picture.size)
        taken.append(place)
        _label(canvas, place, text, colour, font)
    return np.asarray(picture)


def beside(pictures: Mapping[str, Image]) -> Image:
    """Pictures of one size from left to right, each under its title."""
    from PIL import Image as Pillow
    from PIL import ImageDraw

    height, width = next(iter(pictures.values())).shape[:2]
    size = round(1.2 * _text(height, width))
    gap, top = max(4, size // 4), 2 * size
    whole = Pillow.new("RGB", (len(pictures) * (width + gap) - gap, height + top), LIGHT)
    canvas = ImageDraw.Draw(whole)
    for index, (title, picture) in enumerate(pictures.items()):
        left = index * (width + gap)
        whole.paste(Pillow.fromarray(picture), (left, top))
        canvas.text((left + size / 2, top / 2), title, DARK, _font(size), anchor="lm")
    return np.asarray(whole)


def _line(height: int, width: int) -> int:
    return max(LEAST_LINE, round(LINE * (height + width) / 2))


def _text(height: int, width: int) -> int:
    return max(LEAST_TEXT, round(TEXT * (height + width) / 2))


@functools.cache
def _font(size: int) -> "FreeTypeFont":
    from PIL import ImageFont

    # not by importing matplotlib, which takes a while and writes a cache
    spec = importlib.util.find_spec("matplotlib")
    assert spec is not None and spec.origin is not None, "a dependency"
    return ImageFont.truetype(str(Path(spec.origin).parent / FONT), size)


def _outline(
    canvas: "ImageDraw", corners: Sequence[float], colour: Colour, line: int, alone: bool
) -> None:
    """A box with a dark edge, so that it stands out from any ground; if alone, in a white one."""
    canvas.rectangle(_grown(corners, 1), outline=DARK)
    canvas.rectangle(_grown(corners, 0), outline=colour, width=line)
    if alone:
        canvas.rectangle(_grown(corners, 2 * line + 2), outline=DARK)
        canvas.rectangle(_grown(corners, 2 * line + 1), outline=LIGHT, width=2 * line)


def _grown(corners: Sequence[float], by: float) -> Rectangle:
    x1, y1, x2, y2 = corners
    return x1 - by, y1 - by, max(x1, x2) + by, max(y1, y2) + by


def _place(
    corners: Sequence[float],
    text: tuple[float, float, float, float],
    line: int,
    taken: Sequence[Rectangle],
    size: tuple[int, int],
) -> Rectangle:
    """Where a label stands: over its box, in it or under it, the first that hides others least.

    Args:
        text: what its words take, from 0.
        taken: labels that stand already.
        size: width and height of the picture.
    """
    x1, y1, x2, y2 = corners
    pad = line
    width, height = math.ceil(text[2]) + 2 * pad, math.ceil(text[3]) + pad
    left = min(max(0, x1 - line), max(0, size[0] - width))
    right = min(max(0, x2 + line - width), max(0, size[0] - width))
    tops = (y1 - height, y1, y2, y2 - height)
    tries = [(x, y) for y in tops for x in (left, right)]
    inside = [(x, y) for x, y in tries if 0 <= y <= size[1] - height] or [(left, 0)]
    places = [(x, y, x + width, y + height) for x, y in inside]
    return min(places, key=lambda place: sum(_shared(place, other) for other in taken))


def _shared(a: Rectangle, b: Rectangle) -> float:
    """Area that two labels have in common."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(0.0, width) * max(0.0, height)


def _label(canvas: "ImageDraw", place: Rectangle, text: str, colour: Colour, font: Any) -> None:
    bright = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 130
    canvas.rectangle(place, fill=colour)
    middle = ((place[0] + place[2]) / 2, (place[1] + place[3]) / 2)
    canvas.text(middle, text, DARK if bright else LIGHT, font, anchor="mm")
