"""How a graph takes an image, and an image as it takes it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yoloq.base.errors import EngineError
from yoloq.geometry.boxes import Image

TYPES = {
    "tensor(uint8)": np.uint8,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
}


@dataclass(frozen=True)
class ImageInput:
    """The one input of a graph that sees images.

    Attributes:
        name: of the input.
        dtype: of its numbers.
        channels_last: (N, H, W, 3) in the place of (N, 3, H, W).
        sides: height and width in pixels; 0 where any will do.
        batch: images at once.
    """

    name: str
    dtype: Any
    channels_last: bool
    sides: tuple[int, int]
    batch: int

    def of(self, image: Image, divisor: float) -> NDArray[Any]:
        """(1, S, S, 3) uint8 as the graph takes it, cut to its sides and repeated to its batch.

        Args:
            divisor: of pixels that it takes as floats.
        """
        height, width = (_middle(*each) for each in zip(image.shape[1:3], self.sides, strict=True))
        cut = image[:, height, width]
        moved = cut if self.channels_last else cut.transpose(0, 3, 1, 2)
        scaled = moved if self.dtype is np.uint8 else (moved / divisor).astype(self.dtype)
        return np.ascontiguousarray(scaled.repeat(self.batch, 0))


def _middle(side: int, kept: int) -> slice:
    """The middle of a side; all of it where any length will do."""
    kept = kept or side
    return slice((side - kept) // 2, (side - kept) // 2 + kept)


def image_input(session: Any) -> ImageInput:
    """The input of a session of ONNX Runtime, which has to be an image.

    Sides without a number are taken for any; channels without one stand in front.

    Raises:
        EngineError: it is none, or there are several.
    """
    inputs = session.get_inputs()
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs) or "none"
        raise EngineError(f"it has {len(inputs)} inputs ({names}); one image alone is fed")
    (value,) = inputs
    dtype = TYPES.get(value.type)
    shape = [side if isinstance(side, int) else 0 for side in value.shape]
    last = len(shape) == 4 and shape[3] == 3 != shape[1]
    if len(shape) != 4 or dtype is None or shape[3 if last else 1] not in (0, 3):
        raise EngineError(
            f"its input {value.name} ({value.type}, {list(value.shape)}) is no image of 3 colours"
        )
    height, width = shape[1:3] if last else shape[2:]
    return ImageInput(value.name, dtype, last, (height, width), shape[0] or 1)
