"""Where drawn pictures go: a file each, or one film."""

from pathlib import Path
from typing import Any, Protocol

from yoloq.base.errors import RunError
from yoloq.geometry.boxes import Image

QUALITY = 92  # of JPEG


class Album(Protocol):
    """Takes drawn pictures, uint8 (H, W, 3) RGB.

    `prepare` may be called by several threads at once; `add` gets what it returned, in order.
    """

    def prepare(self, name: str, picture: Image) -> Any: ...

    def add(self, prepared: Any) -> None: ...

    def close(self) -> None: ...


class PictureFiles:
    """A JPEG for each picture in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def prepare(self, name: str, picture: Image) -> None:
        """Write it; the whole folder appears at once, so that no file is seen half."""
        import cv2

        file = self.folder / f"{name}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        file.write_bytes(data.tobytes())

    def add(self, prepared: None) -> None: ...

    def close(self) -> None: ...


class Film:
    """An mp4 of all pictures, in the size of the first."""

    def __init__(self, file: Path, fps: float) -> None:
        self.file = file
        self.fps = fps
        self.writer: Any = None

    def prepare(self, name: str, picture: Image) -> Image:
        """In the order of channels that OpenCV writes."""
        import cv2

        bgr: Image = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        return bgr

    def add(self, prepared: Image) -> None:
        """Append it.

        Raises:
            RunError: OpenCV cannot write mp4 here.
        """
        import cv2

        if self.writer is None:
            height, width = prepared.shape[:2]
            code = cv2.VideoWriter.fourcc(*"mp4v")
            self.size = (width, height)
            self.writer = cv2.VideoWriter(str(self.file), code, self.fps, self.size)
            if not self.writer.isOpened():
                raise RunError(
                    f"{self.file.name}: this OpenCV writes no mp4; pip install opencv-python"
                )
        if prepared.shape[1::-1] != self.size:
            prepared = cv2.resize(prepared, self.size)
        self.writer.write(prepared)

    def close(self) -> None:
        """Write the film's index."""
        if self.writer is not None:
            self.writer.release()
