"""Small videos and folders of pictures to predict on."""

from pathlib import Path

import cv2
import numpy as np


def write_film(file: Path, frames: int = 6, width: int = 64, height: int = 48) -> Path:
    """An mp4 of 10 frames a second in which a bright square moves to the right."""
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (width, height))
    assert writer.isOpened()
    for index in range(frames):
        frame = np.full((height, width, 3), 60, np.uint8)
        frame[10:30, 2 * index : 2 * index + 20] = 230
        writer.write(frame)
    writer.release()
    return file
