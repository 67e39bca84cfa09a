"""COCO json as ground truth: categories by name, images by file name."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from yoloq.base.errors import DataError
from yoloq.data.formats.coco.categories import match_categories
from yoloq.data.formats.coco.corners import check_boxes
from yoloq.data.formats.coco.document import box_of, is_crowd, numbers, read_coco
from yoloq.data.formats.coco.entries import example, match_images, portable_name
from yoloq.data.formats.coco.sizes import check_sizes, clash_of, said_size
from yoloq.data.image_files import spellings, unique
from yoloq.data.images import image_size
from yoloq.data.truth import Label, LabelReport, Problem, collect
from yoloq.geometry.detections import GroundTruth

Size = tuple[int, int]


def claims(source: Path) -> bool:
    """Whether a file that a yaml names is a COCO json."""
    return source.suffix.lower() == ".json"


def read(
    source: Path | None, names: Sequence[str] | None, images: Sequence[Path]
) -> tuple[GroundTruth, LabelReport]:
    """Boxes of `images` in a COCO json; images that it does not list are background.

    Boxes are clipped to the image, as large as the file is, else as the json says; `area` is the
    box's where it is not written. Annotations without a usable box are skipped and reported.

    Args:
        names: of the classes; None: all categories are class 0.

    Raises:
        DataError: it is not a COCO json, lists none of the images, does not fit the names, or is of
            images of other sizes.
    """
    assert source is not None, "a COCO json is one file"
    file, document = source, read_coco(source)
    classes, by_order = match_categories(file, document, names)
    entries = match_images(file, document["images"], images)
    sizes, other_sizes = image_sizes(file, document["annotations"], entries, images)
    files = {identity: images[index] for identity, (index, _) in entries.items()}
    outside = check_boxes(file, document["annotations"], sizes, files)
    listed = {entry["id"] for entry in document["images"]}
    labels: list[Label] = []
    problems: list[Problem] = []
    for position, annotation in enumerate(document["annotations"]):
        image = annotation["image_id"]
        if image in listed and image not in entries:
            continue  # of an image that was not asked for
        try:
            if image not in listed:
                raise ValueError(f"image {image!r} is not in the list of images")
            labels.append(_label(entries[image][0], annotation, classes, sizes[image]))
        except ValueError as error:
            where = f"annotation {annotation.get('id', position)}"
            problems.append(Problem(file, where, str(error)))
    matched = {index for index, _ in entries.values()}
    left = [image for index, image in enumerate(images) if index not in matched]
    return collect(
        labels,
        images,
        problems=problems,
        unlisted=len(left),
        source=file,
        example=example(document["images"], left) if left else "",
        remarks=[remark for remark in (by_order, other_sizes, outside) if remark],
    )


def image_sizes(
    file: Path,
    annotations: Sequence[Mapping[str, Any]],
    entries: Mapping[Any, tuple[int, Mapping[str, Any]]],
    images: Sequence[Path],
) -> tuple[dict[Any, Size | None], str]:
    """(height, width) by image id, of the file or else as the json says; and a remark on clashes.

    Raises:
        DataError: the json is of images of other sizes.
    """
    sizes: dict[Any, Size | None] = {}
    clashes = {}
    for identity, (index, entry) in entries.items():
        said, found = said_size(entry), image_size(images[index])
        sizes[identity] = found or said
        if clash := clash_of(images[index], said, found):
            clashes[identity] = clash
    return sizes, check_sizes(file, clashes, annotations, len(entries))


def images_in(source: Path, root: Path, split: str) -> tuple[Path, ...]:
    """Image files of a COCO json, in its order, from the first usual folder that has one of them.

    Raises:
        DataError: not a COCO json, or no folder with its images found.
    """
    names = [portable_name(item) for item in read_coco(source)["images"]]
    if not names:
        raise DataError(f"{source}: lists no images")
    year = source.stem.removeprefix("instances_")
    folders = (".", "images", split, f"images/{split}", year, f"images/{year}")
    bases = (source.parent, *(root / folder for folder in folders))
    for base in bases:
        if any(_file(base, name).exists() for name in (names[0], names[-1])):
            return unique(_file(base, name) for name in names)
    raise DataError(
        f"{source}: its images, such as {names[0]}, were not found below {root}; "
        f"give their folder as `{split}:` and this file under `annotations:`"
    )


def _file(base: Path, name: str) -> Path:
    """The file of a name in whichever way it is spelled there."""
    tries = [base / each for each in spellings(name)]
    return next((file for file in tries if file.exists()), tries[0])


def _label(
    index: int, annotation: Mapping[str, Any], classes: Mapping[Any, int], size: Size | None
) -> Label:
    category = annotation["category_id"]
    if category not in classes:
        raise ValueError(f"category {category!r} is not in the list of categories")
    left, top, width, height = box_of(annotation)
    right, bottom = left + width, top + height
    lowest, rightmost = size or (math.inf, math.inf)
    box = (max(left, 0.0), max(top, 0.0), min(right, rightmost), min(bottom, lowest))
    if width <= 0 or height <= 0 or box[0] >= box[2] or box[1] >= box[3]:
        raise ValueError("box is empty or outside the image")
    area = annotation.get("area")
    area = width * height if area is None else numbers([area], 1)[0]
    return Label(index, classes[category], box, area, is_crowd(annotation))
