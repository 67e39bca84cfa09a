"""The built-in detection set: generated from a seed, in under a minute on two cores.

Shapes that differ in outline, in texture, or in both, lie over each other on textured ground, under
uneven light, blurred and noisy, so that a quantized model has something to lose. A picture depends
only on (seed, split, index): the same set appears whatever the number of processes.
"""

import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from yoloq.base.errors import DataError
from yoloq.base.say import progress
from yoloq.data.shapes import CLASSES, Floats, Sprite, draw_sprite

VERSION = 1  # raise when the pictures change: an older set is then made again
MARKER = "synthetic.json"
SPLITS = ("train", "val")
OBJECTS = (3, 13)  # tried a picture
SIDES = (12.0, 150.0)  # pixels at 320, before rotation
HIDDEN = 0.4  # an object of which less than this is visible gets no label
MIN_BOX = 6.0  # pixels; smaller remains at the border get no label
DISTRACTORS = 5
JPEG_QUALITY = 92


@dataclass(frozen=True)
class Recipe:
    """What decides the set's content; stored beside it."""

    seed: int
    train: int
    val: int
    imgsz: int
    version: int = VERSION


def ensure(
    folder: Path, seed: int = 0, train: int = 2600, val: int = 520, imgsz: int = 320
) -> None:
    """Generate the set into `folder` (`images/<split>`, `labels/<split>`) unless it is there.

    The folder appears whole: pictures are made in a temporary one beside it.

    Raises:
        DataError: the folder exists and was not made by this function.
    """
    recipe = Recipe(seed, train, val, imgsz)
    if is_current(folder, recipe):
        return
    if folder.exists() and any(folder.iterdir()) and not (folder / MARKER).exists():
        raise DataError(f"{folder}: not a generated set; move it away or change `path` in the yaml")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        generate(temporary, recipe)
        _move(temporary, folder, recipe)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def is_current(folder: Path, recipe: Recipe) -> bool:
    """Whether the folder holds the set of this recipe."""
    try:
        return bool(json.loads((folder / MARKER).read_text()) == asdict(recipe))
    except (OSError, ValueError):
        return False


def generate(folder: Path, recipe: Recipe) -> None:
    """Draw all pictures of a recipe over the cores, with a progress bar on stderr."""
    for split in SPLITS:
        (folder / "images" / split).mkdir(parents=True)
        (folder / "labels" / split).mkdir(parents=True)
    jobs = [(split, i) for split in SPLITS for i in range(getattr(recipe, split))]
    # a forked child can hang on locks of OpenCV's and torch's threads
    processes, context = len(os.sched_getaffinity(0)), get_context("spawn")
    bar = progress("draw the built-in set", len(jobs), "pictures")
    with bar as advance, ProcessPoolExecutor(processes, context) as pool:
        for _ in pool.map(partial(write_example, folder, recipe), jobs, chunksize=16):
            advance(1)
    (folder / MARKER).write_text(json.dumps(asdict(recipe)))


def write_example(folder: Path, recipe: Recipe, job: tuple[str, int]) -> None:
    """Draw picture `index` of a split and write the JPEG and its YOLO label file."""
    import cv2

    cv2.setNumThreads(1)
    split, index = job
    generator = np.random.default_rng((recipe.seed, SPLITS.index(split), index))
    picture, classes, boxes = draw_example(generator, recipe.imgsz)
    name = f"{index:05d}"
    quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    # encoded first: cv2.imwrite says nothing of a full disk, and half a set would pass for a whole
    _, encoded = cv2.imencode(".jpg", picture, quality)
    (folder / "images" / split / f"{name}.jpg").write_bytes(encoded.tobytes())
    rows = label_rows(classes, boxes, recipe.imgsz)
    (folder / "labels" / split / f"{name}.txt").write_text("".join(rows))


def label_rows(classes: list[int], boxes: list[tuple[int, ...]], imgsz: int) -> Iterator[str]:
    """YOLO label rows: class, centre x, centre y, width, height as fractions of the picture."""
    for index, (x1, y1, x2, y2) in zip(classes, boxes, strict=True):
        centre = (x1 + x2) / 2 / imgsz, (y1 + y2) / 2 / imgsz
        size = (x2 - x1) / imgsz, (y2 - y1) / imgsz
        yield f"{index} " + " ".join(f"{value:.6f}" for value in (*centre, *size)) + "\n"


def draw_example(
    generator: np.random.Generator, imgsz: int
) -> tuple[np.ndarray, list[int], list[tuple[int, ...]]]:
    """One picture (imgsz, imgsz, 3) uint8, its classes and its boxes x1 y1 x2 y2 in pixels."""
    canvas = background(generator, imgsz)
    owner = np.full((imgsz, imgsz), -1, np.int16)  # the object on top at each pixel
    scale = imgsz / 320
    for _ in range(generator.integers(0, DISTRACTORS + 1)):
        sprite = Sprite.random(generator, imgsz, _sides(generator, scale), distractor=True)
        draw_sprite(canvas, sprite)
    drawn: list[tuple[int, tuple[int, ...], int]] = []
    for number in range(generator.integers(*OBJECTS, endpoint=True)):
        sprite = Sprite.random(generator, imgsz, _sides(generator, scale))
        extent = draw_sprite(canvas, sprite, owner, number)
        drawn.append((sprite.kind, extent.box, extent.area))
    visible = np.bincount(owner[owner >= 0], minlength=len(drawn))
    kept = [
        (kind, box)
        for (kind, box, area), seen in zip(drawn, visible, strict=True)
        if seen >= HIDDEN * max(area, 1) and min(box[2] - box[0], box[3] - box[1]) >= MIN_BOX
    ]
    return degrade(generator, canvas), [kind for kind, _ in kept], [box for _, box in kept]


def background(generator: np.random.Generator, imgsz: int) -> Floats:
    """Smooth colour clouds, one grating and grain: (imgsz, imgsz, 3) in 0..255."""
    import cv2

    canvas = np.zeros((imgsz, imgsz, 3), np.float32)
    for cells, strength in ((3, 70.0), (12, 30.0), (40, 14.0)):
        clouds = generator.normal(0, strength, (cells, cells, 3)).astype(np.float32)
        clouds = 0.7 * clouds.mean(2, keepdims=True) + 0.3 * clouds
        canvas += cv2.resize(clouds, (imgsz, imgsz), interpolation=cv2.INTER_CUBIC)
    steps = np.arange(imgsz, dtype=np.float32)
    angle, period = generator.uniform(0, math.pi), generator.uniform(4, 40)
    across = steps * math.cos(angle) + steps[:, None] * math.sin(angle)
    wave = np.sin(across * (2 * math.pi / period))
    canvas += wave[..., None] * generator.uniform(0, 18)
    canvas += generator.uniform(60, 190, 3)
    return np.clip(canvas, 0, 255, out=canvas)


def degrade(generator: np.random.Generator, canvas: Floats) -> np.ndarray:
    """Uneven light, contrast, blur and noise; returns uint8."""
    import cv2

    imgsz = len(canvas)
    corners = generator.uniform(0.55, 1.25, (2, 2)).astype(np.float32)
    light = cv2.resize(corners, (imgsz, imgsz), interpolation=cv2.INTER_LINEAR)
    canvas = canvas * light[..., None]
    if generator.random() < 0.5:
        canvas = cv2.GaussianBlur(canvas, (0, 0), generator.uniform(0.3, 1.1))
    contrast = generator.uniform(0.55, 1.0)
    canvas = (canvas - 127) * contrast + generator.uniform(90, 160)
    noise = generator.standard_normal(canvas.shape, np.float32) * generator.uniform(0, 11)
    return np.clip(canvas + noise, 0, 255).round().astype(np.uint8)


def _sides(generator: np.random.Generator, scale: float) -> float:
    """A side length in pixels, log-uniform."""
    low, high = np.log(SIDES)
    return float(np.exp(generator.uniform(low, high))) * scale


def _move(temporary: Path, folder: Path, recipe: Recipe) -> None:
    """Put the finished folder in place; another process that was faster is welcome."""
    if is_current(folder, recipe):
        return
    if folder.exists():
        shutil.rmtree(folder)
    try:
        temporary.rename(folder)
    except OSError:
        if not is_current(folder, recipe):
            raise


__all__ = ["CLASSES", "Recipe", "draw_example", "ensure", "generate", "is_current"]
