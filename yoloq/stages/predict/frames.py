"""What a source gives: image files, the frames of a video, or those of a camera."""

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any

from yoloq.base.errors import DataError
from yoloq.base.files import LFS_ADVICE, is_lfs_pointer
from yoloq.data.image_files import files_of
from yoloq.data.images import fault, read_image
from yoloq.geometry.boxes import Image

CAMERA = "camera:"
VIDEOS = frozenset(
    {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv"}
)
USUAL_FPS = 25.0  # of a source that does not say


@dataclass(frozen=True)
class Frame:
    """One picture of a source.

    `name` is that of the files written for it, without a suffix, and `place` that of the picture
    within the source; `read` gives uint8 (H, W, 3) RGB, or None where it is broken; `title` names
    it to a user and `file` is where it lies (none: it is part of a video).
    """

    name: str
    place: str
    title: str
    read: Callable[[], Image | None]
    file: Path | None = None

    def fault(self) -> str:
        """Why it cannot be read."""
        return "cannot be decoded" if self.file is None else fault(self.file)


@dataclass(frozen=True)
class Frames:
    """All pictures of a source.

    `total` is how many it says to have (None: no end is known), `fps` frames a second of a video,
    0 of image files.
    """

    name: str
    each: Iterator[Frame]
    total: int | None
    fps: float = 0.0


@contextlib.contextmanager
def open_frames(source: str, limit: int = 0) -> Iterator[Frames]:
    """Open a source for the length of a block.

    Args:
        limit: the first N; 0: all.

    Raises:
        DataError: it is not there, cannot be read, or holds no image.
    """
    if source.startswith(CAMERA) or Path(source).suffix.lower() in VIDEOS:
        with _opened(source) as capture:
            yield _video(source, capture, limit)
    else:
        yield _images(source, files_of(source)[: limit or None])


def _images(source: str, files: Sequence[Path]) -> Frames:
    top = Path(os.path.commonpath([file.absolute().parent for file in files]))
    places = [file.absolute().relative_to(top) for file in files]
    each = (
        Frame(name, place.as_posix(), str(file), partial(read_image, file), file)
        for name, place, file in zip(_names(places), places, files, strict=True)
    )
    return Frames(Path(source).resolve().stem, each, len(files))


def _names(places: Sequence[Path]) -> list[str]:
    """Places without their suffix, but where two files differ in nothing else."""
    times = Counter(place.with_suffix("") for place in places)
    return [
        (place if times[place.with_suffix("")] > 1 else place.with_suffix("")).as_posix()
        for place in places
    ]


@contextlib.contextmanager
def _opened(source: str) -> Iterator[Any]:
    """OpenCV's capture of a video file or a camera.

    Raises:
        DataError: there is none, or it cannot be opened.
    """
    import cv2

    # what these two print themselves names no file
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    number = source.removeprefix(CAMERA)
    if source.startswith(CAMERA):
        if not number.isdecimal():
            raise DataError(f"--source {source}: give the camera's number, such as camera:0")
        capture = cv2.VideoCapture(int(number))
    else:
        capture = cv2.VideoCapture(source)
    try:
        if not capture.isOpened():
            raise DataError(f"--source {source}: {_unopened(source)}")
        yield capture
    finally:
        capture.release()


def _unopened(source: str) -> str:
    if source.startswith(CAMERA):
        return "no such camera, or another program has it; try camera:1 or give a video file"
    if not Path(source).exists():
        return "does not exist; check the path"
    if is_lfs_pointer(Path(source)):
        return LFS_ADVICE
    return "cannot be read as a video; try it in a player, or convert it to mp4"


def _video(source: str, capture: Any, limit: int) -> Frames:
    import cv2

    camera = source.startswith(CAMERA)
    name = source.replace(":", "-") if camera else Path(source).stem
    told = 0 if camera else max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
    total = min(told, limit) if told and limit else told or limit or None
    fps = capture.get(cv2.CAP_PROP_FPS) or USUAL_FPS
    return Frames(name, islice(_grabbed(name, source, capture), limit or None), total, fps)


def _grabbed(name: str, source: str, capture: Any) -> Iterator[Frame]:
    """Frames until the end; one that is there and cannot be decoded is broken."""
    for number in count(1):
        if not capture.grab():
            return
        read = partial(_rgb, *capture.retrieve())
        frame = f"{name}_{number:06d}"
        yield Frame(frame, frame, f"{source}, frame {number}", read)


def _rgb(decoded: bool, pixels: Any) -> Image | None:
    import cv2

    if not decoded or pixels is None or not pixels.size:
        return None
    image: Image = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    return image
