"""Label formats: a file each and a row here; the first that claims what a yaml names has it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from yoloq.data.formats import coco, txt
from yoloq.data.truth import LabelReport
from yoloq.geometry.detections import GroundTruth

Names = Sequence[str] | None


@dataclass(frozen=True)
class Format:
    """How labels are written.

    Attributes:
        name: for messages.
        claims: whether a file or folder that a data yaml names holds labels of this format.
        read: (what was claimed or None, class names, images) -> their labels, numbered as they
            stand in the sequence, and the report on them; a DataError where they do not fit.
            Names None: classes are not told apart, whatever a label says will do.
        images: (what was claimed, the set's root, split) -> the images that it lists; None: it
            lists none.
        file_of: (what was claimed or None, image) -> the file of its labels; None: all labels are
            in what was claimed.
    """

    name: str
    claims: Callable[[Path], bool]
    read: Callable[[Path | None, Names, Sequence[Path]], tuple[GroundTruth, LabelReport]]
    images: Callable[[Path, Path, str], tuple[Path, ...]] | None = None
    file_of: Callable[[Path | None, Path], Path] | None = None


COCO = Format("COCO json", coco.claims, coco.read, images=coco.images_in)
TXT = Format(
    "YOLO txt", lambda source: False, txt.read, file_of=lambda source, image: txt.label_file(image)
)
FORMATS = (COCO, TXT)


def claimant(source: Path) -> Format | None:
    """The format that claims what a data yaml names."""
    return next((each for each in FORMATS if each.claims(source)), None)


def format_of(source: Path | None) -> Format:
    """The format of a split's labels, by what a data yaml names for them.

    Without any they lie beside the images. A file that no format claims is taken for a COCO json,
    whatever its suffix.
    """
    return TXT if source is None else claimant(source) or COCO
