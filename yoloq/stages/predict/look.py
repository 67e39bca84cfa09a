"""The work on each picture: find, write, draw; and what it all comes to."""

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from yoloq.base.ahead import in_order
from yoloq.base.say import progress, say
from yoloq.geometry.boxes import Image
from yoloq.measure.image_path import ImagePath
from yoloq.measure.partners import partners
from yoloq.models.heads.decode import Candidates
from yoloq.report.drawn_boxes import beside, draw_boxes
from yoloq.stages.built import BuiltEngine
from yoloq.stages.predict import PredictConfig
from yoloq.stages.predict.album import Album, Film, PictureFiles
from yoloq.stages.predict.forms import CocoFile, coco_file, yolo_lines
from yoloq.stages.predict.frames import Frame, Frames

PICTURES, LABELS = "images", "labels"
Finder = Callable[[Image], Candidates]


@dataclass(frozen=True)
class Seen:
    """A picture that was worked on: what each engine found, and what the album gets.

    `same` counts by class the boxes that two engines have in common; nothing of one engine.
    """

    frame: Frame
    height: int
    width: int
    found: tuple[Candidates, ...]
    same: Counter[int]
    prepared: Any


@dataclass
class Looked:
    """What a source came to.

    `documents` are of each engine; `broken` has the reason by picture; `missing` counts frames that
    a video says to have and did not give; `artifacts` are the files in the folder but for labels
    and single pictures.
    """

    names: Sequence[str]
    titles: Sequence[str]
    imgsz: int
    streams: int
    unit: str
    documents: Sequence[CocoFile]
    count: int = 0
    seconds: float = 0.0
    missing: int = 0
    broken: dict[str, str] = field(default_factory=dict)
    boxes: list[Counter[int]] = field(default_factory=list)
    pictures: Counter[int] = field(default_factory=Counter)
    with_boxes: int = 0
    same: Counter[int] = field(default_factory=Counter)
    artifacts: dict[str, str] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Pictures a second."""
        return self.count / self.seconds

    def add(self, seen: Seen) -> None:
        """Count one more."""
        self.count += 1
        self.same += seen.same
        self.boxes = self.boxes or [Counter() for _ in seen.found]
        for total, document, found in zip(self.boxes, self.documents, seen.found, strict=True):
            total.update(found.classes.tolist())
            document.add(seen.frame.place, seen.height, seen.width, found)
        self.pictures.update(set(seen.found[-1].classes.tolist()))
        self.with_boxes += bool(len(seen.found[-1].classes))

    def table(self, most: int = 0) -> list[list[str]]:
        """Header and cells: boxes of each class, most first, by each engine and by both.

        Args:
            most: classes; 0: all.
        """
        two = len(self.boxes) > 1
        rows = [["Class", *self.titles, *(["In both"] if two else []), "Pictures"]]
        order = sum(self.boxes, Counter[int]()).most_common()
        for number, _ in order[: most or None]:
            counts = [total[number] for total in self.boxes]
            counts += [self.same[number]] if two else []
            cells = map(str, [*counts, self.pictures[number]])
            rows.append([self.names[number], *cells])
        sums = [total.total() for total in self.boxes] + ([self.same.total()] if two else [])
        return [*rows, [f"all {len(order)}", *map(str, sums), str(self.with_boxes)]]


def look(
    config: PredictConfig,
    frames: Frames,
    engines: Sequence[BuiltEngine],
    paths: Sequence[ImagePath],
    folder: Path,
) -> Looked:
    """Find, write and draw the boxes of every picture into a folder, several at once.

    Args:
        engines, paths: one, or two to compare, the reference first.
    """
    threads, folders = paths[0].callers, [folder / part(LABELS, each, engines) for each in engines]
    began = time.perf_counter()
    with contextlib.ExitStack() as stack:
        looked = stack.enter_context(opened(frames, engines, paths, folder))
        advance = stack.enter_context(progress("predict", frames.total, looked.unit))
        album = open_album(frames, folder, looked)
        stack.callback(album.close)
        finders = [stack.enter_context(path.shared()) for path in paths]

        def work(frame: Frame) -> Seen | Frame:
            return see(frame, finders, folders, album, looked, config.save_conf)

        results = in_order(work, frames.each, threads, 2 * threads)
        try:
            with contextlib.closing(results):
                for seen in results:
                    advance(1)
                    if isinstance(seen, Frame):
                        looked.broken[seen.title] = seen.fault()
                        continue
                    album.add(seen.prepared)
                    looked.add(seen)
        except KeyboardInterrupt:
            say(f"stopped after {looked.count} {looked.unit}; what was seen is kept")
        else:
            looked.missing = max(0, (frames.total or 0) - looked.count - len(looked.broken))
    looked.seconds = time.perf_counter() - began
    return looked


@contextlib.contextmanager
def opened(
    frames: Frames, engines: Sequence[BuiltEngine], paths: Sequence[ImagePath], folder: Path
) -> Iterator[Looked]:
    """What is counted, and the files that grow with it, in a new folder."""
    folder.mkdir()
    model = paths[0].predictors[0].model
    titles, unit = [each.title for each in engines], "frames" if frames.fps else "images"
    streams = max(len(path.predictors) for path in paths)
    files = {name: f"{name}.json" for name in (part("coco", each, engines) for each in engines)}
    with contextlib.ExitStack() as stack:
        coco = [stack.enter_context(coco_file(folder / f, model.names)) for f in files.values()]
        yield Looked(model.names, titles, model.imgsz, streams, unit, coco, artifacts=files)


def open_album(frames: Frames, folder: Path, looked: Looked) -> Album:
    """An mp4 of a video's frames, a picture for each image file."""
    if not frames.fps:
        return PictureFiles(folder / PICTURES)
    looked.artifacts["film"] = f"{frames.name}.mp4"
    return Film(folder / looked.artifacts["film"], frames.fps)


def part(name: str, engine: BuiltEngine, engines: Sequence[BuiltEngine]) -> str:
    """The name of an engine's part of the files; its precision is in it where there are two."""
    return name if len(engines) == 1 else f"{name}-{engine.key}"


def see(
    frame: Frame,
    finders: Sequence[Finder],
    folders: Sequence[Path],
    album: Album,
    looked: Looked,
    scores: bool,
) -> Seen | Frame:
    """Work on one picture, in any thread; the frame itself where it is broken."""
    pixels = frame.read()
    if pixels is None:
        return frame
    height, width = pixels.shape[:2]
    found = tuple(finder(pixels) for finder in finders)
    for folder, boxes in zip(folders, found, strict=True):
        file = folder / f"{frame.name}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(yolo_lines(boxes, height, width, scores), encoding="utf-8")
    picture, same = drawn(pixels, found, looked.names, looked.titles)
    return Seen(frame, height, width, found, same, album.prepare(frame.name, picture))


def drawn(
    image: Image, found: Sequence[Candidates], names: Sequence[str], titles: Sequence[str]
) -> tuple[Image, Counter[int]]:
    """The picture, and by class how many boxes two engines have in common.

    Boxes of one alone have a white frame there.
    """
    if len(found) == 1:
        return draw_boxes(image, found[0], names), Counter()
    same = partners(*found)
    alone = [
        {*range(len(each.scores))} - {*pairs.tolist()}
        for each, pairs in zip(found, same.T, strict=True)
    ]
    pictures = {
        f"{title}: {len(each.scores)} boxes{_not_in_the_other(len(own))}": draw_boxes(
            image, each, names, own
        )
        for title, each, own in zip(titles, found, alone, strict=True)
    }
    return beside(pictures), Counter(found[0].classes[same[:, 0]].tolist())


def _not_in_the_other(count: int) -> str:
    return f", {count} not in the other (white frame)" if count else ""
