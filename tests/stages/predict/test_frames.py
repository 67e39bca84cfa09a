"""Image files, videos and cameras as one stream of pictures."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from films import write_film

from yoloq.base.errors import DataError
from yoloq.stages.predict.frames import open_frames


def write_image(file: Path, value: int = 0) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(file), np.full((8, 12, 3), value, np.uint8))
    return file


def names(source: str, limit: int = 0) -> list[str]:
    with open_frames(source, limit) as frames:
        return [frame.name for frame in frames.each]


def test_a_folder_is_searched_and_its_places_are_kept(tmp_path: Path) -> None:
    for name in ("b.png", "sub/a.png", "sub/a.jpg", "c.png"):
        write_image(tmp_path / name)
    assert names(str(tmp_path)) == ["b", "c", "sub/a.jpg", "sub/a.png"]
    assert names(str(tmp_path), limit=2) == ["b", "c"]
    with open_frames(str(tmp_path)) as frames:
        assert (frames.name, frames.total, frames.fps) == (tmp_path.name, 4, 0)
        assert [frame.place for frame in frames.each][2] == "sub/a.jpg"


def test_a_single_image(tmp_path: Path) -> None:
    file = write_image(tmp_path / "photo.png", 7)
    with open_frames(str(file)) as frames:
        [frame] = frames.each
        assert (frames.name, frame.name, frame.place) == ("photo", "photo", "photo.png")
        assert frame.read().tolist() == np.full((8, 12, 3), 7).tolist()


def test_a_broken_image_says_why(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    with open_frames(str(tmp_path / "a.png")) as frames:
        [frame] = frames.each
        assert frame.read() is None and frame.fault() == "cannot be read as an image"


def test_frames_of_a_video_are_numbered_from_1(tmp_path: Path) -> None:
    film = write_film(tmp_path / "clip.mp4", 4)
    with open_frames(str(film)) as frames:
        assert (frames.name, frames.total, frames.fps) == ("clip", 4, 10)
        found = list(frames.each)
    assert [frame.name for frame in found] == [f"clip_00000{n}" for n in (1, 2, 3, 4)]
    assert found[1].title == f"{film}, frame 2"
    first, last = found[0].read(), found[-1].read()
    assert first.shape == (48, 64, 3)
    assert first[20, 1].mean() > 200 and last[20, 1].mean() < 100, "the square has moved"
    assert names(str(film), limit=3) == [frame.name for frame in found[:3]]


class Camera:
    """A capture of OpenCV's with some frames that cannot be decoded."""

    def __init__(self, number: Any) -> None:
        self.number, self.next, self.released = number, 0, False

    def isOpened(self) -> bool:  # noqa: N802
        return self.number == 0

    def get(self, _: int) -> float:
        return 0.0

    def grab(self) -> bool:
        self.next += 1
        return self.next <= 3

    def retrieve(self) -> tuple[bool, Any]:
        blue = np.zeros((4, 4, 3), np.uint8)
        blue[..., 0] = 255
        return (False, None) if self.next == 2 else (True, blue)

    def release(self) -> None:
        self.released = True


def test_a_camera_has_no_known_end_and_broken_frames_stay_in_the_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[Camera] = []
    monkeypatch.setattr(cv2, "VideoCapture", lambda n: made.append(Camera(n)) or made[-1])
    with open_frames("camera:0") as frames:
        assert (frames.name, frames.total, frames.fps) == ("camera-0", None, 25)
        first, broken, last = frames.each
    assert first.read()[0, 0].tolist() == [0, 0, 255], "RGB, as all pictures"
    assert broken.read() is None and broken.fault() == "cannot be decoded"
    assert last.title == "camera:0, frame 3"
    assert made[0].released
    with open_frames("camera:0", limit=1) as frames:
        assert frames.total == 1 and len(list(frames.each)) == 1


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("nothing.jpg", "nothing.jpg: does not exist"),
        ("nothing.mp4", "--source nothing.mp4: does not exist"),
        ("broken.mp4", "broken.mp4: cannot be read as a video; .* convert it to mp4"),
        ("pointer.mp4", "pointer.mp4: is a Git LFS pointer .* run `git lfs pull`"),
        ("camera:7", "camera:7: no such camera"),
        ("camera:front", "camera:front: give the camera's number, such as camera:0"),
        ("empty", "empty: holds no images"),
    ],
)
def test_mistakes(source: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.mp4").write_bytes(b"no film")
    (tmp_path / "pointer.mp4").write_text("version https://git-lfs.github.com/spec/v1\n")
    if source == "camera:7":
        monkeypatch.setattr(cv2, "VideoCapture", Camera)
    with pytest.raises(DataError, match=words), open_frames(source):
        pass
