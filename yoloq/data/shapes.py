"""Anti-aliased shapes with textures, drawn from signed distances.

A shape is a function of the object's own coordinates u, v (each about -1..1) to a signed distance
in the same unit, negative inside; a texture is a function of u, v to 0..1. Formulas for the
distances follow Inigo Quilez, "2D distance functions".
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Field = Callable[[Floats, Floats], Floats]


def disc(u: Floats, v: Floats) -> Floats:
    """A circle of radius 1."""
    return np.hypot(u, v) - 1


def square(u: Floats, v: Floats) -> Floats:
    """A square of half side 0.88, about the disc's area."""
    return np.maximum(np.abs(u), np.abs(v)) - 0.88


def ring(u: Floats, v: Floats) -> Floats:
    """An annulus from radius 0.52 to 1."""
    return np.abs(np.hypot(u, v) - 0.76) - 0.24


def cross(u: Floats, v: Floats) -> Floats:
    """A plus sign with arms of half width 0.3."""
    return np.minimum(bar(u, v), bar(v, u))


def bar(u: Floats, v: Floats) -> Floats:
    """An upright bar, one arm pair of the cross."""
    return np.maximum(np.abs(u) - 0.3, np.abs(v) - 1)


def polygon(corners: int, depth: float) -> Field:
    """A star whose notches lie at `depth` of the radius; cos(pi / corners) makes a polygon."""
    wedge = math.pi / corners
    across, along = depth * math.sin(wedge), 1 - depth * math.cos(wedge)  # from tip to notch
    length = math.hypot(across, along)

    def distance(u: Floats, v: Floats) -> Floats:
        angle = np.arctan2(u, -v) % (2 * wedge)
        angle = np.minimum(angle, 2 * wedge - angle)
        radius = np.hypot(u, v)
        inward = (radius * np.cos(angle) - 1) * (across / length)
        return inward + radius * np.sin(angle) * (along / length)

    return distance


def stripes(u: Floats, v: Floats) -> Floats:
    """Bands across u."""
    return np.sin(u * (2 * np.pi * 1.75)) * 0.5 + 0.5


def dots(u: Floats, v: Floats) -> Floats:
    """Round dots on a square lattice."""
    return np.clip(np.cos(u * (2 * np.pi * 1.5)) + np.cos(v * (2 * np.pi * 1.5)) - 0.4, 0, 1)


def checks(u: Floats, v: Floats) -> Floats:
    """A checkerboard."""
    product = np.sin(u * (2 * np.pi * 1.1)) * np.sin(v * (2 * np.pi * 1.1))
    return np.clip(product * 3, -1, 1) * 0.5 + 0.5


def plain(u: Floats, v: Floats) -> Floats:
    """No texture."""
    return np.zeros_like(u)


CLASSES: dict[str, tuple[Field, Field]] = {
    "striped disc": (disc, stripes),
    "dotted disc": (disc, dots),
    "checked disc": (disc, checks),
    "striped square": (square, stripes),
    "dotted square": (square, dots),
    "checked square": (square, checks),
    "ring": (ring, plain),
    "cross": (cross, plain),
    "star": (polygon(5, 0.48), plain),
    "triangle": (polygon(3, 0.5), plain),
}
DISTRACTORS: tuple[tuple[Field, Field], ...] = (
    (disc, plain),
    (square, plain),
    (bar, stripes),
    (polygon(6, 0.866), plain),
)
KINDS = (*CLASSES.values(), *DISTRACTORS)


@dataclass(frozen=True)
class Sprite:
    """One object: its index in `KINDS`, place, size (half side, pixels), turn and two colours."""

    kind: int
    x: float
    y: float
    radius: float
    aspect: float
    angle: float
    colours: Floats
    shade: float

    @staticmethod
    def random(
        generator: np.random.Generator, imgsz: int, side: float, distractor: bool = False
    ) -> "Sprite":
        """Draw every property; the two colours differ by 50..150 levels of grey or more."""
        first, last = (len(CLASSES), len(KINDS)) if distractor else (0, len(CLASSES))
        x, y = generator.uniform(0.02, 0.98, 2) * imgsz
        one = generator.uniform(20, 235, 3).astype(np.float32)
        away = np.where(one.mean() > 127, -1, 1) * generator.uniform(50, 150)
        two = one + away + generator.normal(0, 25, 3)
        return Sprite(
            kind=int(generator.integers(first, last)),
            x=float(x),
            y=float(y),
            radius=side / 2,
            aspect=float(np.exp(generator.uniform(-0.22, 0.22))),
            angle=float(generator.uniform(0, 2 * np.pi)),
            colours=np.stack([one, two]).astype(np.float32),
            shade=float(generator.uniform(-25, 25)),
        )


@dataclass(frozen=True)
class Extent:
    """Tight box x1 y1 x2 y2 within the picture; area in pixels of the whole object."""

    box: tuple[int, int, int, int]
    area: int


def draw_sprite(
    canvas: Floats, sprite: Sprite, owner: NDArray[np.int16] | None = None, number: int = 0
) -> Extent:
    """Blend a sprite into the canvas (H, W, 3) in place; mark its pixels in `owner` (H, W)."""
    height, width = canvas.shape[:2]
    reach = int(np.ceil(sprite.radius * max(sprite.aspect, 1 / sprite.aspect) * 1.42)) + 2
    left, top = int(sprite.x) - reach, int(sprite.y) - reach
    alpha, colour = _render(sprite, left, top, 2 * reach)
    inside = alpha >= 0.5
    area = int(inside.sum())
    x1, x2 = (min(max(edge - left, 0), 2 * reach) for edge in (0, width))
    y1, y2 = (min(max(edge - top, 0), 2 * reach) for edge in (0, height))
    if x1 == x2 or y1 == y2:
        return Extent((0, 0, 0, 0), area)
    view = slice(y1, y2), slice(x1, x2)
    place = slice(top + y1, top + y2), slice(left + x1, left + x2)
    canvas[place] += alpha[view][..., None] * (colour[view] - canvas[place])
    if owner is not None:
        owner[place][inside[view]] = number
    return Extent(_box(inside[view], left + x1, top + y1), area)


def _render(sprite: Sprite, left: int, top: int, side: int) -> tuple[Floats, Floats]:
    """Coverage (side, side) in 0..1 and colour (side, side, 3) of a sprite's square."""
    steps = np.arange(0.5, side, dtype=np.float32)
    dx, dy = steps + (left - sprite.x), (steps + (top - sprite.y))[:, None]
    cosine, sine = math.cos(sprite.angle), math.sin(sprite.angle)
    u = (dx * cosine + dy * sine) / (sprite.radius * sprite.aspect)
    v = (dy * cosine - dx * sine) / (sprite.radius / sprite.aspect)
    shape, texture = KINDS[sprite.kind]
    alpha = np.clip(0.5 - shape(u, v) * sprite.radius, 0, 1)
    mix = texture(u, v)[..., None]
    colour = sprite.colours[0] + mix * (sprite.colours[1] - sprite.colours[0])
    return alpha, colour + (u * sprite.shade)[..., None]


def _box(inside: NDArray[np.bool_], left: int, top: int) -> tuple[int, int, int, int]:
    """Tight box of a mask in picture coordinates; all zeros where the mask is empty."""
    columns, rows = np.flatnonzero(inside.any(0)), np.flatnonzero(inside.any(1))
    if not len(columns):
        return 0, 0, 0, 0
    return left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1
