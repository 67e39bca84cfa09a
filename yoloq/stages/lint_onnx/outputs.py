"""What a graph gives on images: outputs that are the same whatever it sees, found by running it."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from yoloq.base.config import DEFAULT_IMGSZ
from yoloq.base.errors import EngineError
from yoloq.data.dataset import read_dataset
from yoloq.data.loader import iterate
from yoloq.engines import packages
from yoloq.geometry.boxes import Image
from yoloq.graph.lint.lookup import OnnxView
from yoloq.graph.lint.table import LintFinding
from yoloq.graph.lint.valid import DamagedError
from yoloq.stages.lint_onnx.image_input import ImageInput, image_input

Level = Literal["error", "warning"]
DETECTIONS = {6: 4, 7: 6}  # columns of a box that went through NMS, and which is its score
MOST = 1000  # boxes of such an output
CORNERS = 4  # columns of a decoded box in front of its scores
BYTE = 255.0
FIX = "look at the scales in front of it; leave the decode in float"
PIXELS = "make sure that it is fed and was calibrated with what it expects"


def dead_outputs(file: Path, data: str, count: int) -> list[LintFinding]:
    """Outputs that are not finite, or tell nothing of the first val images of a data set.

    Pixels of a float input are 0 to 1; a graph may divide by 255 itself, so that one that is dead
    on them is run on 0 to 255 as well. Images are cut where the graph takes no squares.

    Raises:
        EngineError: ONNX Runtime cannot run the file on images; says why.
        DataError: the data set cannot be used.
    """
    session = _session(file)
    taken = image_input(session)
    dataset = read_dataset(data)
    imgsz = max(taken.sides) or dataset.imgsz or DEFAULT_IMGSZ
    images = [batch.images for batch in iterate(dataset.images("val")[:count], imgsz, 1)]
    fixed = _fixed(file)
    found = _dead(session, taken, images, BYTE, fixed)
    if not found or taken.dtype is np.uint8 or _dead(session, taken, images, 1.0, fixed):
        return found
    message = f"{found[0].message} where pixels are 0 to 1; alive where they are 0 to 255"
    return [LintFinding("warning", "dead-output", found[0].nodes, message, PIXELS)]


def _dead(
    session: Any, taken: ImageInput, images: Sequence[Image], divisor: float, fixed: frozenset[str]
) -> list[LintFinding]:
    """Findings on the outputs; `fixed` ones say nothing of an image, unless there are no others."""
    results: dict[str, list[NDArray[Any]]] = {value.name: [] for value in session.get_outputs()}
    for image in images:
        try:
            found = session.run(None, {taken.name: taken.of(image, divisor)})
        except Exception as error:  # of a class of its own for each status
            raise _refused(error) from None
        for name, values in zip(results, found, strict=True):
            # counts and classes may well be equal; sequences are not looked into
            if isinstance(values, np.ndarray) and np.issubdtype(values.dtype, np.floating):
                results[name].append(np.atleast_1d(values)[:1].astype(np.float64))
    named = {name: each for name, each in results.items() if each}
    left = {name: each for name, each in named.items() if name not in fixed} or named
    return [finding for name, each in left.items() for finding in _findings(name, each)]


def _fixed(file: Path) -> frozenset[str]:
    """Tensors that depend on no input, such as anchors that are an output of their own."""
    with contextlib.suppress(DamagedError):
        return frozenset(OnnxView(onnx.load(file, load_external_data=False)).constant)
    return frozenset()


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


def _findings(name: str, each: list[NDArray[Any]]) -> Iterator[LintFinding]:
    """What is wrong with an output, given its values for every image."""
    few = _are_detections(each[0])
    level: Level = "warning" if few and each[0].ndim < 3 else "error"

    def finding(message: str, severity: Level = level) -> LintFinding:
        return LintFinding(severity, "dead-output", (name,), message, FIX)

    scores = _scores(each)
    if any(not np.isfinite(values).all() for values in each):
        yield finding("holds NaN or infinite values", "error")
    elif not any(values.any() for values in each):
        yield finding(f"is 0 for each of {len(each)} images", "warning" if few else "error")
    elif all(values.size > 1 and values.min() == values.max() for values in each):
        yield finding("is one constant")
    elif len(each) > 1 and all(np.array_equal(each[0], values) for values in each[1:]):
        yield finding(f"is the same for each of {len(each)} images")
    elif scores is not None and scores.min() == scores.max():
        yield finding(f"every score is {scores.min():.3g} for each of {len(each)} images", "error")
    elif scores is not None and not scores.any(0).all():
        dead = np.flatnonzero(~scores.any(0)) + CORNERS
        listed = ", ".join(map(str, dead[:5])) + (", ..." if len(dead) > 5 else "")
        why = "a class that they do not show, or a score that is always rounded to 0"
        yield finding(
            f"score column {listed} is 0 for each of {len(each)} images: {why}", "warning"
        )


def _are_detections(values: NDArray[Any]) -> bool:
    """Whether an output is of what NMS kept, which may be nothing on an image.

    Boxes with their scores and classes in one tensor, or each in its own.
    """
    if values.ndim < 3:
        return values.size <= MOST or values.shape[-1] in DETECTIONS
    return values.shape[-1] in (CORNERS, *DETECTIONS) and values.shape[-2] <= MOST


def _scores(each: list[NDArray[Any]]) -> NDArray[Any] | None:
    """Scores (boxes, columns) of the boxes of all images; None where these are no boxes.

    Boxes are rows (1, boxes, columns) or columns (1, columns, boxes). Of decoded ones there are
    more than of corners and scores together; those that NMS kept have a class, a whole number.
    """
    if any(values.ndim != 3 for values in each):
        return None
    _, first, second = each[0].shape
    if _are_detections(each[0]) and len(kept := np.concatenate([values[0] for values in each])):
        column, classes = DETECTIONS.get(second, 0), kept[:, CORNERS + 1 : CORNERS + 2]
        if column and np.array_equal(classes, classes.round()):
            return kept[:, column : column + 1]
    if len({values.shape for values in each}) > 1:
        return None
    rows = np.concatenate([values[0] if first > second else values[0].T for values in each])
    if rows.shape[1] <= CORNERS or not rows[:, :CORNERS].any():
        return None
    return rows[:, CORNERS:]
