"""The data set file (YOLO yaml): names, splits, and where the labels are."""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from yoloq.base.errors import DataError
from yoloq.base.files import hashes
from yoloq.base.say import progress
from yoloq.data.classes import ALL_ONE, ONE, Numbering, numbering, subset
from yoloq.data.formats import Format, claimant, format_of
from yoloq.data.image_files import find, list_images, unique
from yoloq.data.truth import LabelReport
from yoloq.data.yaml_entries import SPLITS, generate, imgsz_of, names_of, read_yaml, root_of
from yoloq.geometry.detections import GroundTruth

MANY = 20_000  # images; hashing fewer takes seconds


@dataclass(frozen=True)
class Dataset:
    """A data set as its yaml describes it.

    `names` are the classes in the order in which `truth` numbers them, `imgsz` the size in pixels
    that it was made for (or None), `splits` the image files of each split, `annotations` what the
    yaml names for the labels of a split, `missing` why a split other than `val` cannot be used,
    `numbering` how the labels number the classes where that is not the order of `names`.
    """

    file: Path
    names: tuple[str, ...]
    imgsz: int | None
    splits: Mapping[str, tuple[Path, ...]]
    annotations: Mapping[str, Path] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    numbering: Numbering | None = None

    def images(self, split: str) -> tuple[Path, ...]:
        """Image files of a split.

        Raises:
            DataError: the yaml does not have the split, or its files are not there.
        """
        if split in self.missing:
            raise DataError(self.missing[split])
        if split not in self.splits:
            raise DataError(f"{self.file}: has no `{split}`; add the folder of its images")
        return self.splits[split]

    @property
    def listed(self) -> tuple[str, ...] | None:
        """Class names as the labels number them; None: they are not told apart."""
        return self.names if self.numbering is None else self.numbering.names

    @property
    def one_class(self) -> bool:
        """Whether classes are not told apart: every label and every box found is of class 0."""
        return self.listed is None

    def as_one_class(self) -> "Dataset":
        """The set with all its labels of one class, as YOLOv5's `--single-cls` takes them.

        Boxes are then found and scored as of one class, however many the model tells apart.
        """
        names = self.names if len(self.names) == 1 else ONE
        return replace(self, names=names, numbering=ALL_ONE)

    def ordered_as(
        self, names: tuple[str, ...], model: str = "the model", named: str = ""
    ) -> "Dataset":
        """The set with the classes of a model, its labels mapped by name.

        What the user has to know of that is in the report of `truth`.

        Args:
            names: classes of the model.
            model, named: what a message calls the model and the set.

        Raises:
            DataError: the set has more classes, or others where it has fewer, and tells them apart.
        """
        count, own = len(names), len(self.names)
        if self.listed is None and count > 1:
            remark = f"--single-cls: its labels and the {count} classes of {model} count as one"
            return replace(self, numbering=replace(ALL_ONE, remark=remark))
        if self.listed is None:
            return replace(self, names=names, numbering=ALL_ONE)
        told = f"{named or self.file}: has {own} classes, but {model} has {count}"
        advice = "give the data set that the checkpoint was trained for"
        one = "or add --single-cls, which tells no classes apart"
        if own > count:
            raise DataError(f"{told}; {advice}, {one}")
        if own == count:
            return replace(self, names=names, numbering=numbering(self.listed, names, model))
        try:
            return replace(self, names=names, numbering=subset(self.listed, names, model))
        except KeyError as error:
            (name,) = error.args
            raise DataError(
                f"{told}, none of them named '{name}'; {advice}, write `names` as it does, {one}"
            ) from None

    def format(self, split: str) -> Format:
        """How the labels of a split are written."""
        return format_of(self.annotations.get(split))

    def truth(self, split: str, images: Sequence[Path]) -> tuple[GroundTruth, LabelReport]:
        """Labels of `images` (of that split), numbered as they stand in the sequence.

        Raises:
            DataError: a label's class has no name, or the labels do not fit the images.
        """
        truth, report = self.format(split).read(self.annotations.get(split), self.listed, images)
        if self.numbering is None:
            return truth, report
        remark = self.numbering.remark
        remarks = (f"{self.file}: {remark}",) if remark else ()
        return (
            replace(truth, classes=self.numbering.classes(truth.classes)),
            replace(report, remarks=remarks + report.remarks),
        )

    def train_alone(self, use: str) -> tuple[Path, ...]:
        """Images of `train` that are not in `val`: those are measured on.

        Args:
            use: what needs them, for the error.

        Raises:
            DataError: train is missing, or has no image of its own.
        """
        val = set(self.images("val"))
        own = tuple(file for file in self.images("train") if file not in val)
        if not own:
            raise DataError(
                f"{self.file}: every image of `train` is in `val` too; {use} needs others"
            )
        return own

    @cached_property
    def sha256(self) -> str:
        """Hex digest that changes with the data but not with the folder it lies in.

        Covers the yaml's text, the contents of the labels, and the names, contents and order of the
        images: detections are kept by position. By content, because a set that was copied, unpacked
        again or drawn again from its seed has new times, and an image that was overwritten may have
        its old size and time. It takes under a second for 5,000 photographs, and is done once in a
        process.
        """
        digest = hashlib.sha256(self.file.read_bytes())
        digest.update(b"" if self.listed is not None else b"one class")
        count = sum(map(len, self.splits.values()))
        with progress("hash of the images", count, shown=count >= MANY) as advance:
            for split, images in sorted(self.splits.items()):
                self._add_split(digest.update, split, images, advance)
        for _, annotations in sorted(self.annotations.items()):
            digest.update(_contents(annotations))
        return digest.hexdigest()

    def _add_split(
        self,
        add: Callable[[bytes], None],
        split: str,
        images: Sequence[Path],
        advance: Callable[[int], None],
    ) -> None:
        """Feed the names and contents of a split's images and label files to a hash."""
        add(split.encode())
        file_of, source = self.format(split).file_of, self.annotations.get(split)
        common = os.path.commonpath([image.parent for image in images])
        for image, content in zip(images, hashes(images), strict=True):
            add(f"\n{image.relative_to(common).as_posix()} {content} ".encode())
            if file_of is not None:
                add(_contents(file_of(source, image)))
            advance(1)


def read_dataset(file: str | Path) -> Dataset:
    """Read a data yaml and find its images; `generate: synthetic` makes the built-in set first.

    `path` is absolute or relative to the yaml's folder, else to the working directory. A split is a
    folder, a .txt list, a COCO json, or a list of these. `val` must be there; another split that
    cannot be found is an error only when it is used. `download` is ignored.

    Raises:
        DataError: the yaml or what it names cannot be used.
    """
    file = Path(os.path.abspath(file))
    document = read_yaml(file)
    names = names_of(file, document)
    root = root_of(file, document)
    generate(file, document, root)
    if not document.get("val"):
        raise DataError(f"{file}: has no `val`; add the folder of the validation images")
    splits: dict[str, tuple[Path, ...]] = {}
    annotations: dict[str, Path] = {}
    missing: dict[str, str] = {}
    for split in (split for split in SPLITS if document.get(split)):
        try:
            splits[split], source = _read_split(file, document, root, split)
            annotations.update({split: source} if source else {})
        except DataError as error:
            if split == "val":
                raise
            missing[split] = str(error)
    return Dataset(file, names, imgsz_of(file, document), splits, annotations, missing)


def _read_split(
    file: Path, document: Mapping[str, Any], root: Path, split: str
) -> tuple[tuple[Path, ...], Path | None]:
    """Image files of a split, and what its labels are in where a format claims it."""
    entries = document[split] if isinstance(document[split], list) else [document[split]]
    if not all(isinstance(entry, str) for entry in entries):
        raise DataError(f"{file}: `{split}` must be a folder, a list file, or a list of these")
    sources = [find(entry, root, f"{file}: `{split}`") for entry in entries]
    given = document.get("annotations") or {}
    if not isinstance(given, dict) or not isinstance(given.get(split, ""), str):
        raise DataError(f"{file}: `annotations` must name one COCO json for each split it has")
    if strange := sorted(given.keys() - set(SPLITS)):
        raise DataError(f"{file}: `annotations` has `{strange[0]}`; splits are {', '.join(SPLITS)}")
    claiming = claimant(sources[0])
    if claiming is not None and claiming.images is not None:
        if len(sources) > 1 or given.get(split):
            raise DataError(
                f"{file}: `{split}` has several sources; a {claiming.name} must be alone"
            )
        return claiming.images(sources[0], root, split), sources[0]
    images = unique(image for source in sources for image in list_images(source, root))
    if given.get(split):
        return images, find(given[split], root, f"{file}: `annotations`")
    if claiming is None and "kpt_shape" in document:
        raise DataError(
            f"{file}: has `kpt_shape`, so that points stand behind the boxes of its labels; "
            "keep the first five columns of each row, and drop `kpt_shape`"
        )
    return images, sources[0] if claiming else None


def _contents(file: Path) -> bytes:
    return file.read_bytes() if file.is_file() else b""
