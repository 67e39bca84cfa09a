"""Reading image files, and only their size."""

from pathlib import Path

import numpy as np

from yoloq.base.files import LFS_ADVICE, is_lfs_pointer
from yoloq.geometry.boxes import Image

SUFFIXES = frozenset(
    {".bmp", ".dng", ".jpeg", ".jpg", ".mpo", ".pfm", ".png", ".tif", ".tiff", ".webp"}
)

HEADERS = frozenset({"BMP", "JPEG", "MPO", "PNG", "WEBP"})
"""Formats (Pillow's names) whose header and EXIF tell the size; of a turned TIFF they do not."""
EXIF_ORIENTATION = 0x0112
TURNED = frozenset({5, 6, 7, 8})
"""Orientations that swap height and width."""


def is_image(file: Path) -> bool:
    """Whether the name is that of a visible image file; upper case counts."""
    return file.suffix.lower() in SUFFIXES and not file.name.startswith(".")


def read_image(file: Path) -> Image | None:
    """Decode an image to uint8 (H, W, 3) RGB; None where it cannot be read.

    The same pixels as `cv2.imread`, hence as YOLOv5: turned upright by EXIF, grey and palette
    images as three channels, transparency dropped, 16 bits reduced to 8. Reading the bytes first
    allows any file name on Windows. OpenCV's own warnings, which name no file, are switched off.
    """
    import cv2

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
    try:
        data = np.fromfile(file, dtype=np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except (OSError, cv2.error):
        return None
    if image is None or image.dtype != np.uint8:
        return None
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def fault(file: Path) -> str:
    """Why an image file cannot be read."""
    if not file.exists():
        return "does not exist"
    return LFS_ADVICE if is_lfs_pointer(file) else "cannot be read as an image"


def is_turned(file: Path) -> bool:
    """Whether EXIF turns the pixels by a quarter, so that height and width change places."""
    from PIL import Image as Pillow

    try:
        with Pillow.open(file) as image:
            return image.getexif().get(EXIF_ORIENTATION) in TURNED
    except Exception:  # see `image_size`
        return False


def image_size(file: Path) -> tuple[int, int] | None:
    """(height, width) of what `read_image` gives, mostly from the header alone.

    None where the file is no image. A header can be whole where the pixels are not.
    """
    try:
        size = _size_in_header(file)
    except Exception:  # Pillow raises many kinds for files that OpenCV reads, or not
        size = None
    if size is not None:
        return size
    pixels = read_image(file)
    return None if pixels is None else (pixels.shape[0], pixels.shape[1])


def _size_in_header(file: Path) -> tuple[int, int] | None:
    from PIL import Image as Pillow

    with Pillow.open(file) as image:
        if image.format not in HEADERS:
            return None
        width, height = image.size
        turned = image.getexif().get(EXIF_ORIENTATION) in TURNED
        return (width, height) if turned else (height, width)
