"""Image sizes as users write them: one side of a square."""

import re
from typing import Any


def side_of(size: Any) -> int:
    """The side in pixels that a size stands for: 640, "640", "640,640" or [640, 640].

    Raises:
        ValueError: it is no size, or not that of a square; the text says why, and what to write.
    """
    parts = size if isinstance(size, list | tuple) else re.split(r"[\s,x\[\]()]+", str(size))
    sides = [_whole(part) for part in parts if part != ""]
    if not sides or None in sides or len(sides) > 2:
        raise ValueError("must be a whole number of pixels")
    if len({*sides}) > 1:
        largest = max(side for side in sides if side is not None)
        raise ValueError(
            "sizes are square: an engine has one input size, and every image is letterboxed into "
            f"that square whatever its shape; give one side, such as {largest}"
        )
    return int(sides[0] or 0)


def _whole(part: Any) -> int | None:
    text = str(part).strip()
    return int(text) if text.isdecimal() and type(part) is not bool else None
