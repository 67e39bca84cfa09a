"""Label formats: a file each and a row here; the first that claims what a yaml names has it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from yoloq.data.formats import coco, txt
from yoloq.data.truth import LabelReport
from yoloq.geometry.detections import GroundTruth


@dataclass(frozen=True)
class Format:
    """How labels are written.

    Attributes:
        name: for messages.
        claims: whether a file or folder that a data yaml names holds labels of this format.
        read: (what was claimed or None, class names, images) -> their labels, numbered as they
            stand in the sequence, and the report on them; a DataError where they do not fit.
        images: (what was claimed, the set's root, split) -> the images that it lists; None: it
            lists none.
        file_of: image -> the file of its labels; None: all labels are in what was claimed.
    """

    name: str
    claims: Callable[[Path], bool]
    read: Callable[[Path | None, Sequence[str], Sequence[Path]], tuple[GroundTruth, LabelReport]]
    images: Callable[[Path, Path, str], tuple[Path, ...]] | None = None
    file_of: Callable[[Path], Path] | None = None


FORMATS = (
    Format("COCO json", coco.claims, coco.read, images=coco.images_in),
    Format("YOLO txt", lambda source: False, txt.read, file_of=txt.label_file),
)


def format_of(source: Path | None) -> Format:
    """The format of what a data yaml names; without any, the labels lie beside the images."""
    claiming = (each for each in FORMATS if source is not None and each.claims(source))
    return next(claiming, FORMATS[-1])
