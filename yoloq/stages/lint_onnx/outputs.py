"""What a graph gives on images: outputs that are the same whatever it sees, found by running it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from yoloq.base.config import DEFAULT_IMGSZ
from yoloq.base.errors import EngineError
from yoloq.data.dataset import read_dataset
from yoloq.data.loader import iterate
from yoloq.engines import packages
from yoloq.graph.lint.table import LintFinding

TYPES = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32, "tensor(float16)": np.float16}
Level = Literal["error", "warning"]
DETECTIONS = (6, 7)  # columns of a box that went through NMS: corners, score, class, perhaps image
MOST = 1000  # boxes of such an output
CORNERS = 4  # columns of a decoded box in front of its scores
FIX = "look at the scales in front of it; leave the decode in float"


@dataclass(frozen=True)
class _ImageInput:
    """How a graph takes an image.

    Attributes:
        name: of the input.
        dtype: of its numbers; pixels of a float input are 0 to 1.
        channels_last: (N, H, W, 3) in the place of (N, 3, H, W).
        imgsz: side of the square; 0 where any will do.
        batch: images at once.
    """

    name: str
    dtype: Any
    channels_last: bool
    imgsz: int
    batch: int

    def of(self, image: NDArray[np.uint8]) -> NDArray[Any]:
        """(1, H, W, 3) uint8 as the graph takes it, repeated to its batch."""
        moved = image if self.channels_last else image.transpose(0, 3, 1, 2)
        scaled = moved if self.dtype is np.uint8 else (moved / np.float32(255)).astype(self.dtype)
        return np.ascontiguousarray(scaled.repeat(self.batch, 0))


def dead_outputs(file: Path, data: str, count: int) -> list[LintFinding]:
    """Outputs that are not finite, or tell nothing of the first val images of a data set.

    Raises:
        EngineError: ONNX Runtime cannot run the file on images; says why.
        DataError: the data set cannot be used.
    """
    session = _session(file)
    taken = _image_input(session)
    dataset = read_dataset(data)
    imgsz = taken.imgsz or dataset.imgsz or DEFAULT_IMGSZ
    files = dataset.images("val")[:count]
    results: dict[str, list[NDArray[Any]]] = {value.name: [] for value in session.get_outputs()}
    for batch in iterate(files, imgsz, 1):
        try:
            found = session.run(None, {taken.name: taken.of(batch.images)})
        except Exception as error:  # of a class of its own for each status
            raise _refused(error) from None
        for name, values in zip(results, found, strict=True):
            if np.issubdtype(values.dtype, np.floating):  # counts and classes may well be equal
                results[name].append(np.asarray(values[:1], np.float64))
    return [finding for name, each in results.items() if each for finding in _findings(name, each)]


def _session(file: Path) -> Any:
    onnxruntime = packages.onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of a class of its own for each status
        raise _refused(error) from None


def _refused(error: Exception) -> EngineError:
    return EngineError(f"ONNX Runtime cannot run it: {' '.join(str(error).split())}")


def _image_input(session: Any) -> _ImageInput:
    inputs = session.get_inputs()
    value = inputs[0]
    shape, dtype = list(value.shape), TYPES.get(value.type)
    if len(inputs) != 1 or len(shape) != 4 or dtype is None or 3 not in (shape[1], shape[3]):
        raise EngineError(
            f"its input {value.name} ({value.type}, {shape}) is no image of 3 colours"
        )
    last = shape[3] == 3
    sides = [side if isinstance(side, int) else 0 for side in (shape[1:3] if last else shape[2:])]
    if sides[0] != sides[1]:
        raise EngineError(f"its images are {sides[0]} x {sides[1]}; only squares are fed")
    batch = shape[0] if isinstance(shape[0], int) else 1
    return _ImageInput(value.name, dtype, last, sides[0], batch)


def _findings(name: str, each: list[NDArray[Any]]) -> Iterator[LintFinding]:
    """What is wrong with an output, given its values for every image."""

    def finding(message: str, severity: Level = "error") -> LintFinding:
        return LintFinding(severity, "dead-output", (name,), message, FIX)

    scores = _scores(each)
    if any(not np.isfinite(values).all() for values in each):
        yield finding("holds NaN or infinite values")
    elif not any(values.any() for values in each):
        level: Level = "warning" if _are_detections(each[0]) else "error"
        yield finding(f"is 0 for each of {len(each)} images", level)
    elif all(values.size > 1 and values.min() == values.max() for values in each):
        yield finding("is one constant")
    elif len(each) > 1 and all(np.array_equal(each[0], values) for values in each[1:]):
        yield finding(f"is the same for each of {len(each)} images")
    elif scores is not None and scores.min() == scores.max():
        yield finding(f"every score is {scores.min():.3g} for each of {len(each)} images")
    elif scores is not None and not scores.any(0).all():
        dead = np.flatnonzero(~scores.any(0)) + CORNERS
        listed = ", ".join(map(str, dead[:5])) + (", ..." if len(dead) > 5 else "")
        why = "a class that they do not show, or a score that is always rounded to 0"
        yield finding(
            f"score column {listed} is 0 for each of {len(each)} images: {why}", "warning"
        )


def _are_detections(values: NDArray[Any]) -> bool:
    """Whether an output is of boxes after NMS, of which there may be none on an image."""
    return values.shape[-1] in DETECTIONS and (values.ndim < 3 or values.shape[-2] <= MOST)


def _scores(each: list[NDArray[Any]]) -> NDArray[Any] | None:
    """Scores (boxes, columns) of decoded boxes of all images; None where these are no boxes.

    Boxes are rows (1, boxes, columns) or columns (1, columns, boxes): there are more of them than
    of corners and scores together.
    """
    if any(values.ndim != 3 for values in each):
        return None
    _, first, second = each[0].shape
    rows = np.concatenate([values[0] if first > second else values[0].T for values in each])
    if rows.shape[1] <= CORNERS or not rows[:, :CORNERS].any():
        return None
    return rows[:, CORNERS:]
