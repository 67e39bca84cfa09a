"""Reading image files, and only their size."""

from pathlib import Path

import numpy as np

from ..boxes import Image

SUFFIXES = frozenset(
    {".bmp", ".dng", ".jpeg", ".jpg", ".mpo", ".pfm", ".png", ".tif", ".tiff", ".webp"}
)


def is_image(file: Path) -> bool:
    """Whether the name is that of a visible image file; upper case counts."""
    return file.suffix.lower() in SUFFIXES and not file.name.startswith(".")


def read_image(file: Path) -> Image | None:
    """Decode an image to uint8 (H, W, 3) RGB; None where it cannot be read.

    The same pixels as `cv2.imread`, hence as YOLOv5: turned upright by EXIF, grey and palette
    images as three channels, transparency dropped, 16 bits reduced to 8. Reading the bytes first
    allows any file name on Windows and keeps OpenCV's own warnings off the screen.
    """
    import cv2

    try:
        data = np.fromfile(file, dtype=np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except (OSError, cv2.error):
        return None
    if image is None or image.dtype != np.uint8:
        return None
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
