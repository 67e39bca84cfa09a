"""Reading images of every kind, batches, draws, and files that cannot be read."""

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from yoloq.base.errors import DataError, UserError
from yoloq.data.images import image_size, is_image, read_image
from yoloq.data.loader import check_imgsz, iterate, sample


def _pictures(folder: Path, count: int) -> list[Path]:
    """Picture i is 20 + i wide, 10 high and of colour (i, 100, 200) as RGB."""
    import cv2

    files = [folder / f"{index}.png" for index in range(count)]
    for index, file in enumerate(files):
        cv2.imwrite(str(file), np.full((10, 20 + index, 3), (200, 100, index), dtype=np.uint8))
    return files


@pytest.mark.parametrize("workers", [0, 2], ids=["this thread", "two workers"])
def test_batches_come_whole_and_in_order(tmp_path: Path, workers: int) -> None:
    files = _pictures(tmp_path, 7)
    batches = list(iterate(files, 32, 3, workers))
    assert [batch.index.tolist() for batch in batches] == [[0, 1, 2], [3, 4, 5], [6]]
    for batch in batches:
        assert batch.images.shape == (len(batch.index), 32, 32, 3)
        assert batch.images.dtype == np.uint8
        assert batch.images.flags.c_contiguous
        for position, image, box in zip(batch.index, batch.images, batch.boxes, strict=True):
            np.testing.assert_array_equal(image[16, 16], (position, 100, 200))
            assert (box.height, box.width) == (10, 20 + position)


@pytest.mark.parametrize("workers", [0, 1])
def test_unreadable_images_are_skipped_and_listed(tmp_path: Path, workers: int) -> None:
    files = _pictures(tmp_path, 5)
    files[1].write_bytes(b"")
    files[2].write_text("not an image")
    files[4].unlink()
    skipped: list[Path] = []
    batches = list(iterate(files, 32, 2, workers, skipped))
    assert [batch.index.tolist() for batch in batches] == [[0], [3]]
    assert skipped == [files[1], files[2], files[4]]


def test_an_abandoned_loop_leaves_no_thread_and_reads_little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    monkeypatch.setattr(
        "yoloq.data.loader.read_image", lambda file: read.append(file) or read_image(file)
    )
    before = threading.active_count()
    batches = iterate(_pictures(tmp_path, 30), 32, 2, 2)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
    assert len(read) <= 2 + 2 * 2 + 1, "a batch, two ahead of it, one in hand"


def test_no_readable_image_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    file.write_bytes(b"")
    with pytest.raises(DataError, match=r"a\.jpg: cannot be read as an image; none of 1 images"):
        list(iterate([file], 32, 4))
    with pytest.raises(DataError, match="list of images is empty"):
        list(iterate([], 32, 4))


GREY = np.full((4, 6), 100, np.uint8)


@pytest.mark.parametrize(
    ("name", "pixels", "want"),
    [
        pytest.param("a.png", GREY, (100, 100, 100), id="grey"),
        pytest.param("a.PNG", GREY, (100, 100, 100), id="upper case"),
        pytest.param("a.png", np.full((4, 6), 40000, np.uint16), (156,) * 3, id="16 bits"),
        pytest.param("a.png", np.full((4, 6, 4), (1, 2, 3, 0), np.uint8), (3, 2, 1), id="RGBA"),
        pytest.param("a.bmp", np.full((4, 6, 3), (1, 2, 3), np.uint8), (3, 2, 1), id="bmp"),
        pytest.param("bäume 1.tif", np.full((4, 6, 3), 9, np.uint8), (9,) * 3, id="tif, umlaut"),
    ],
)
def test_kinds_of_images(
    tmp_path: Path, name: str, pixels: np.ndarray, want: tuple[int, int, int]
) -> None:
    import cv2

    file = tmp_path / name
    file.write_bytes(cv2.imencode(file.suffix.lower(), pixels)[1].tobytes())
    image = read_image(file)
    assert image is not None
    assert (image.shape, image.dtype) == ((4, 6, 3), np.uint8)
    np.testing.assert_array_equal(image[0, 0], want)
    assert image_size(file) == (4, 6)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize(
    ("orientation", "size"), [(1, (4, 6)), (3, (4, 6)), (6, (6, 4)), (8, (6, 4))]
)
def test_images_are_turned_upright(
    tmp_path: Path, suffix: str, orientation: int, size: tuple[int, int]
) -> None:
    from PIL import Image

    file = tmp_path / f"a{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(file, exif=exif)
    image = read_image(file)
    assert image is not None
    assert image.shape[:2] == image_size(file) == size


def test_cmyk_and_palette(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("CMYK", (6, 4), (0, 255, 255, 0)).save(tmp_path / "a.jpg")
    Image.new("P", (6, 4), 0).save(tmp_path / "a.png")
    red = read_image(tmp_path / "a.jpg")
    black = read_image(tmp_path / "a.png")
    assert red is not None
    assert black is not None
    np.testing.assert_allclose(red[0, 0].astype(int), (255, 0, 0), atol=3)
    assert black.shape == (4, 6, 3)


def _truncated(file: Path, kind: str = ".jpg") -> None:
    import cv2

    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = cv2.imencode(kind, noise)[1].tobytes()
    file.write_bytes(data[: len(data) // 4])


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda file: file.write_bytes(b""), id="zero bytes"),
        pytest.param(lambda file: file.write_bytes(b"\xff\xd8\xff"), id="only a JPEG's mark"),
        pytest.param(_truncated, id="truncated"),
        pytest.param(lambda file: _truncated(file, ".png"), id="truncated PNG"),
        pytest.param(lambda file: file.mkdir(), id="a folder"),
        pytest.param(lambda file: None, id="missing"),
    ],
)
def test_unreadable_is_none_without_noise(
    tmp_path: Path, spoil: Callable[[Path], object], capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.jpg"
    spoil(file)
    assert read_image(file) is None
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "want"),
    [("a.jpg", True), ("a.JPeG", True), ("a.txt", False), ("._a.jpg", False), ("jpg", False)],
)
def test_is_image(name: str, want: bool) -> None:
    assert is_image(Path(name)) is want


def test_sample_is_seeded_and_nested_and_ignores_order() -> None:
    files = [Path(f"/set/{index}.jpg") for index in range(20)]
    drawn = sample(files, 8, seed=3)
    assert len(set(drawn)) == 8
    assert sample(files[::-1], 8, seed=3) == drawn
    assert sample([Path("/else") / file.name for file in files], 3, seed=3) == tuple(
        Path("/else") / file.name for file in drawn[:3]
    )
    assert sample(files, 8, seed=4) != drawn
    assert sorted(sample(files, 99, seed=0)) == sorted(files)


def test_sample_of_nothing() -> None:
    with pytest.raises(DataError, match="0 images: ask for 1 or more"):
        sample([Path("a.jpg")], 0, seed=0)
    with pytest.raises(DataError, match="split is empty"):
        sample([], 1, seed=0)


@pytest.mark.parametrize(
    ("imgsz", "advice"),
    [(330, "such as 320 or 352"), (20, "such as 32$"), (0, "such as 32$"), (-64, "such as 32$")],
)
def test_imgsz_that_the_stride_does_not_divide(imgsz: int, advice: str) -> None:
    with pytest.raises(UserError, match=rf"--imgsz {imgsz}: .* stride 32, {advice}"):
        check_imgsz(imgsz, 32)


def test_imgsz_that_fits() -> None:
    assert check_imgsz(640, 32) == 640
    assert check_imgsz(1280, 64) == 1280
