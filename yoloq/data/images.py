"""Reading image files, and only their size."""

import contextlib
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from yoloq.base.files import LFS_ADVICE, is_lfs_pointer
from yoloq.base.machine import is_out_of_memory
from yoloq.geometry.boxes import Image

SUFFIXES = frozenset(
    {".bmp", ".dng", ".jpeg", ".jpg", ".mpo", ".pfm", ".png", ".tif", ".tiff", ".webp"}
)

HEADERS = frozenset({"BMP", "JPEG", "MPO", "PNG", "WEBP"})
"""Formats (Pillow's names) whose header and EXIF tell the size; of a turned TIFF they do not."""
EXIF_ORIENTATION = 0x0112
MOST_PIXELS = 1 << 28
"""Of an image, 268 million: six bytes each while it is decoded. OpenCV itself takes four times as
many, and a file of three megabytes may have them."""
SMALL = 1 << 19
"""Bytes of a file that cannot have so many: a PNG of one colour takes 1.5 times that."""
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

    Raises:
        MemoryError: there is too little for its pixels.
    """
    import cv2

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
    try:
        data = np.fromfile(file, dtype=np.uint8)
        if data.size > SMALL and _pixels(file) > MOST_PIXELS:
            return None
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except OSError:
        return None
    except cv2.error as error:
        if is_out_of_memory(error):  # an image that is left out is another result
            raise MemoryError(f"to decode {file}") from None
        return None
    if image is None or image.dtype != np.uint8:
        return None
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def fault(file: Path) -> str:
    """Why an image file cannot be read."""
    if not file.exists():
        return "does not exist"
    if _pixels(file) > MOST_PIXELS:
        return f"has more than the {MOST_PIXELS // 10**6} million pixels that are read of an image"
    return LFS_ADVICE if is_lfs_pointer(file) else "cannot be read as an image"


def _pixels(file: Path) -> int:
    """How many pixels the header says; 0 where it says nothing that Pillow reads."""
    from PIL import Image as Pillow

    try:
        with _unwarned(), Pillow.open(file) as image:
            return image.width * image.height
    except Pillow.DecompressionBombError as error:  # beyond 179 million
        told = re.search(r"\d+", str(error))
        return int(told[0]) if told else 0
    except Exception:  # see `image_size`
        return 0


@contextlib.contextmanager
def _unwarned() -> Iterator[None]:
    """Without Pillow's warning of many pixels, which OpenCV decodes."""
    from PIL import Image as Pillow

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Pillow.DecompressionBombWarning)
        yield


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

    with _unwarned(), Pillow.open(file) as image:
        if image.format not in HEADERS:
            return None
        width, height = image.size
        turned = image.getexif().get(EXIF_ORIENTATION) in TURNED
        return (width, height) if turned else (height, width)
