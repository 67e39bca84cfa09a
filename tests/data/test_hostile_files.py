"""Images and labels that nobody wants to have: what is read is right, and memory is bounded."""

import os
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from yoloq.data.formats.txt import LARGEST, read_rows
from yoloq.data.images import MOST_PIXELS, fault, image_size, read_image
from yoloq.geometry.boxes import letterbox

SIDE = 13_784  # 190 million pixels
READ = r"""
import re, sys
from pathlib import Path
from yoloq.data.images import read_image
print(len(read_image(Path(sys.argv[1]))))
print(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])
"""
SPARE = 150 << 20  # bytes: the file, its decoder, and what Python takes


def png(file: Path, width: int, height: int, rows: Iterable[bytes]) -> Path:
    """A PNG of 8 bits a colour, written row by row."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        sum32 = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + sum32

    packer = zlib.compressobj(1)
    pixels = b"".join(packer.compress(b"\0" + row) for row in rows) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", pixels), chunk(b"IEND", b""))
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return file


def noise(height: int, width: int, channels: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)


def jpeg(file: Path, pixels: NDArray[np.uint8]) -> Path:
    Image.fromarray(pixels).save(file, quality=95)
    return file


def test_a_cut_jpeg_has_its_size_or_is_named(tmp_path: Path) -> None:
    """OpenCV, as YOLOv5 reads, fills with grey what is missing."""
    whole = jpeg(tmp_path / "a.jpg", noise(64, 96)).read_bytes()
    for share in (0.01, 0.1, 0.3, 0.5, 0.9, 0.999):
        file = tmp_path / f"{share}.jpg"
        file.write_bytes(whole[: int(share * len(whole))])
        pixels = read_image(file)
        assert pixels is None or pixels.shape == (64, 96, 3)
        assert pixels is not None or fault(file) == "cannot be read as an image"


@pytest.mark.parametrize("shape", [(1, 30_000), (30_000, 1), (1, 1)])
def test_shapes_without_measure(shape: tuple[int, int], tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    pixels = noise(*shape)
    cv2.imwrite(str(file), pixels)
    found = read_image(file)
    assert found is not None and np.array_equal(found, pixels[..., ::-1])
    assert image_size(file) == shape
    square, geometry = letterbox(found, 64)
    assert square.shape == (64, 64, 3)
    assert (geometry.height, geometry.width) == shape


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    deep = np.array([[[0, 0, 0], [65_535, 256, 255], [32_768, 511, 512]]], np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), deep[..., ::-1])
    found = read_image(tmp_path / "a.png")
    assert found is not None and found.dtype == np.uint8
    assert found.tolist() == [[[0, 0, 0], [255, 1, 0], [128, 1, 2]]]


def test_transparency_is_dropped(tmp_path: Path) -> None:
    pixels = noise(5, 7, 4)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = read_image(tmp_path / "a.png")
    assert found is not None and np.array_equal(found, pixels[..., :3])


def test_cmyk_is_shown_in_rgb(tmp_path: Path) -> None:
    cyan = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    cyan.save(tmp_path / "a.jpg", quality=95)
    found = read_image(tmp_path / "a.jpg")
    assert found is not None and found.shape == (16, 16, 3)
    assert np.abs(found.astype(int) - (0, 255, 255)).max() < 10
    assert image_size(tmp_path / "a.jpg") == (16, 16)


@pytest.mark.parametrize(
    ("turn", "quarters", "flipped"),
    [(1, 0, False), (3, 2, False), (6, 3, False), (8, 1, False), (2, 0, True), (4, 2, True)],
)
def test_exif_turns_the_pixels(turn: int, quarters: int, flipped: bool, tmp_path: Path) -> None:
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:8, :8] = 255  # a white corner
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=95, exif=exif)
    found = read_image(tmp_path / "a.jpg")
    wanted = np.rot90(pixels[:, ::-1] if flipped else pixels, quarters)
    assert found is not None and found.shape == wanted.shape
    assert np.abs(found.astype(int) - wanted).max() < 60
    assert image_size(tmp_path / "a.jpg") == wanted.shape[:2]


@pytest.mark.parametrize("suffix", [".webp", ".png", ".tiff"])
def test_of_several_pictures_the_first_counts(suffix: str, tmp_path: Path) -> None:
    red, blue = (Image.new("RGB", (16, 16), colour) for colour in ((255, 0, 0), (0, 0, 255)))
    file = tmp_path / f"a{suffix}"
    red.save(
        file, save_all=True, append_images=[blue], **({} if suffix == ".tiff" else {"loop": 0})
    )
    found = read_image(file)
    assert found is not None and np.abs(found.astype(int) - (255, 0, 0)).max() < 10


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is Linux's")
def test_190_million_pixels_take_six_bytes_each(tmp_path: Path) -> None:
    file = png(tmp_path / "a.png", SIDE, SIDE, (bytes(3 * SIDE) for _ in range(SIDE)))
    command = [sys.executable, "-c", READ, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    side, kilobytes = map(int, done.stdout.split())
    assert side == SIDE
    assert 1024 * kilobytes < 6 * SIDE * SIDE + SPARE


def test_a_bomb_of_pixels_is_named_and_not_decoded(tmp_path: Path) -> None:
    """Four hundred megabytes of black in a file of half a megabyte."""
    side = 20_000
    assert side * side > MOST_PIXELS
    file = png(tmp_path / "a.png", side, side, (bytes(3 * side) for _ in range(side)))
    began = time.perf_counter()
    assert read_image(file) is None
    assert fault(file) == "has more than the 268 million pixels that are read of an image"
    assert time.perf_counter() - began < 1


ROW = b"0 0.5 0.5 0.1 0.1\n"


@pytest.mark.parametrize(
    ("size", "content"), [(400 << 20, b""), (0, ROW * (1 + LARGEST // len(ROW)))]
)
def test_ten_million_rows_are_no_labels_of_an_image(
    size: int, content: bytes, tmp_path: Path
) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(content)
    if size:
        os.truncate(file, size)  # without a block on the disk
    began = time.perf_counter()
    rows, [problem] = read_rows(file, 1)
    assert time.perf_counter() - began < 1
    assert rows == ()
    assert "MB, no labels of one image" in problem.reason


@pytest.mark.parametrize("seed", range(5))
def test_binary_labels_are_a_problem_of_the_file(seed: int, tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(np.random.default_rng(seed).bytes(10_000))
    rows, [problem] = read_rows(file, 1)
    assert rows == () and problem.reason.startswith("is not a text file in UTF-8")


def test_nul_bytes_and_numbers_without_end_are_problems_of_their_rows(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    rows = ["\0 0 0 0 0", "1e999 0.5 0.5 0.1 0.1", "0 0.5 0.5 0.1 " + "9" * 5000, ROW.decode()]
    file.write_text("\n".join(rows))
    found, problems = read_rows(file, 1)
    assert len(found) == 1
    assert [problem.where for problem in problems] == ["row 1", "row 2", "row 3"]
