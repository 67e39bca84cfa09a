"""The whole path, from image files to boxes: one image after another and several under way."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from latency import Load, Timed, pixels, time_models
from record import SPREAD, Column, Figure, Found, Table
from subject import Subject, main

from yoloq.base.machine import affinity
from yoloq.engines import get_engine
from yoloq.measure.image_path import ImagePath

IMAGES = 25  # a call
RUNS, WARMUP = 10, 2  # calls
LIMIT = 1.35  # target: of the engine alone at batch 1
TITLES = {"openvino": "OpenVINO", "onnxruntime": "ONNX Runtime"}
ALONE, ONE, BESIDE, STREAMS = "alone", "one after another", "read beside", "a stream a thread"
COLUMNS = (
    Column("Engine and path"),
    Column("ms an image", "{:.2f}"),
    Column("Least to largest", SPREAD),
    Column("Images/s", "{:.1f}"),
    Column("Over the engine alone", "{:.3f}"),
    Column("Least to largest", SPREAD),
)
WHAT = (
    f"{ALONE}: the engine, with a letterboxed image in memory. {ONE}: from the file to the boxes. "
    f"{BESIDE}: the same while other threads read the next images and find the boxes of the former "
    f"ones. {STREAMS}: so, with as many images in the engine as it has threads. At the thresholds "
    "that travel with the model; the boxes are the same, bit by bit."
)


@dataclass(frozen=True)
class PathOf:
    """An engine file and image files; called, it opens the engine, and the call runs all images."""

    engine: str
    precision: str
    file: Path
    images: tuple[Path, ...]
    way: str

    def __call__(self) -> Callable[[], object]:
        row, threads = get_engine(self.engine), len(affinity())
        count = threads if self.way == STREAMS else 1
        streams = row.load_streams(self.file, self.precision, "cpu", threads, count)
        path = ImagePath(streams)
        if self.way == ALONE:
            image = pixels(self.images[0], streams[0].model.imgsz)
            return lambda: [streams[0](image) for _ in self.images]
        if self.way == ONE:
            return lambda: [path(file) for file in self.images]
        return partial(path.all, self.images)


def measure(subject: Subject) -> Found:
    """Milliseconds an image of each path, over those of the engine alone, with the target."""
    images = tuple(subject.inputs.images[:IMAGES])
    source, groups = subject.quantized(refine=()), []
    for engine, title in TITLES.items():
        row = get_engine(engine)
        for precision in ("fp32", "int8"):
            file = row.make(source, precision, subject.folder)
            name, about = f"{title} {precision.upper()}", (engine, precision, file, images)
            ways: dict[str, Load] = {
                f"{name}, {way}": PathOf(*about, way) for way in (ALONE, ONE, BESIDE, STREAMS)
            }
            groups.append(ways)
    timed = time_models(groups, bool(subject.limit), RUNS, WARMUP)
    return Found(figures(timed), (table(timed, len(images)),), (how(timed, len(images)), WHAT))


def table(timed: Timed, images: int) -> Table:
    """All paths."""
    rows: list[tuple[Any, ...]] = []
    for name in timed.names:
        ms, spread = timed.milliseconds(name)
        each = [edge / images for edge in spread]
        rows.append((name, ms / images, each, 1e3 * images / ms, *timed.ratio(name, alone(name))))
    return Table("From file to boxes", COLUMNS, tuple(rows))


def figures(timed: Timed) -> tuple[Figure, ...]:
    """The fastest path of each engine over the engine alone."""
    found = []
    for name in timed.names:
        if name == alone(name):
            title = name.removesuffix(f", {ALONE}")
            ways = [f"{title}, {way}" for way in (BESIDE, STREAMS)]
            best = min(ways, key=lambda way: timed.ratio(way, name)[0])
            ratio, (low, most) = timed.ratio(best, name)
            note = f"{low:.3f} to {most:.3f}"
            found.append(Figure(f"{best} / {ALONE}", ratio, high=LIMIT, note=note))
    return tuple(found)


def alone(name: str) -> str:
    """The engine alone that a path's time is over."""
    return f"{name.rpartition(', ')[0]}, {ALONE}"


def how(timed: Timed, images: int) -> str:
    """How the times were taken."""
    return (
        f"Calls of {images} images on {len(affinity())} threads, start and end of a call included: "
        f"the median of {timed.runs} after {WARMUP} to warm up, the paths of an engine in turn; "
        f"then the median and the extremes of {len(timed.medians)} fresh processes. Ratios are "
        "taken within a process."
    )


if __name__ == "__main__":
    raise SystemExit(main("whole_path", measure))
