"""COCO json as ground truth: categories by name, images by file name."""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from yoloq.base.errors import DataError
from yoloq.data.image_files import read_text, unique
from yoloq.data.truth import Label, LabelReport, Problem, collect
from yoloq.geometry.detections import GroundTruth


def claims(source: Path) -> bool:
    """Whether a file that a yaml names is a COCO json."""
    return source.suffix.lower() == ".json"


def read(
    source: Path | None, names: Sequence[str], images: Sequence[Path]
) -> tuple[GroundTruth, LabelReport]:
    """Boxes of `images` in a COCO json; images that it does not list are background.

    Boxes are clipped to the json's image size where it says one; `area` is the box's where it is
    not written. Annotations without a usable box are skipped and reported.

    Raises:
        DataError: it is not a COCO json, lists none of the images, or does not fit the names.
    """
    assert source is not None, "a COCO json is one file"
    file, document = source, read_coco(source)
    classes = match_categories(file, document["categories"], names)
    entries = match_images(file, document["images"], images)
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
            index, entry = entries[image]
            labels.append(_label(index, annotation, classes, entry))
        except ValueError as error:
            where = f"annotation {annotation.get('id', position)}"
            problems.append(Problem(file, where, str(error)))
    unlisted = len(images) - len(entries)
    return collect(labels, images, problems=problems, unlisted=unlisted, source=file)


def images_in(source: Path, root: Path, split: str) -> tuple[Path, ...]:
    """Image files of a COCO json, in its order, from the first usual folder that has one of them.

    Raises:
        DataError: not a COCO json, or no folder with its images found.
    """
    names = [str(item["file_name"]) for item in read_coco(source)["images"]]
    if not names:
        raise DataError(f"{source}: lists no images")
    year = source.stem.removeprefix("instances_")
    folders = (".", "images", split, f"images/{split}", year, f"images/{year}")
    bases = (source.parent, *(root / folder for folder in folders))
    for base in bases:
        if (base / names[0]).exists() or (base / names[-1]).exists():
            return unique(base / name for name in names)
    raise DataError(
        f"{source}: its images, such as {names[0]}, were not found below {root}; "
        f"give their folder as `{split}:` and this file under `annotations:`"
    )


def read_coco(source: Path) -> dict[str, Any]:
    """Read a COCO json and check the ids and names in its three lists.

    Raises:
        DataError: not json, a list is missing or malformed, or two images have one id.
    """
    try:
        document = json.loads(read_text(source))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{source}: is not a json file ({error})") from None
    keys = {
        "images": ("id", "file_name"),
        "annotations": ("image_id", "category_id"),
        "categories": ("id", "name"),
    }
    for key, fields in keys.items():
        items = document.get(key) if isinstance(document, dict) else None
        if not isinstance(items, list) or not all(_has(item, fields) for item in items):
            raise DataError(f"{source}: is not a COCO json: its list `{key}` is missing or broken")
    ids = Counter(item["id"] for item in document["images"])
    if len(ids) < len(document["images"]):
        twice = ids.most_common(1)[0][0]
        raise DataError(f"{source}: image id {twice!r} occurs twice; give each image its own")
    return document


def _has(item: Any, fields: Sequence[str]) -> bool:
    return isinstance(item, dict) and all(isinstance(item.get(f), int | str) for f in fields)


def match_categories(
    file: Path, categories: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> dict[Any, int]:
    """Category id -> index into `names`: by name, else by the order of the ids.

    The order is taken only where it contradicts no name that both sides have.

    Raises:
        DataError: neither way fits.
    """
    position = {name.strip().lower(): index for index, name in enumerate(names)}
    ordered = sorted(categories, key=lambda item: (isinstance(item["id"], str), item["id"]))
    by_name = [position.get(str(category["name"]).strip().lower()) for category in ordered]
    if None in by_name:
        fits = all(found in (None, index) for index, found in enumerate(by_name))
        if len(ordered) > len(names) or not fits:
            unknown = ordered[by_name.index(None)]["name"]
            raise DataError(
                f"{file}: category '{unknown}' is not in the data yaml's {len(names)} names; add it"
            )
    indices = (index if found is None else found for index, found in enumerate(by_name))
    return {category["id"]: index for category, index in zip(ordered, indices, strict=True)}


def match_images(
    file: Path, entries: Sequence[Mapping[str, Any]], images: Sequence[Path]
) -> dict[Any, tuple[int, Mapping[str, Any]]]:
    """Image id -> (position in `images`, the json's entry), by file name.

    Folders in a file name are compared as far as both sides have them, so that equal names in
    several folders stay apart.

    Raises:
        DataError: no image is listed.
    """
    listed: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for entry in entries:
        listed[PurePosixPath(str(entry["file_name"])).name].append(entry)
    found: dict[Any, tuple[int, Mapping[str, Any]]] = {}
    for index, image in enumerate(images):
        candidates = listed.get(image.name, [])
        if candidates:
            best = max(candidates, key=lambda entry: _common_tail(entry["file_name"], image))
            found.setdefault(best["id"], (index, best))
    if not found:
        raise DataError(f"{file}: lists none of the images, such as {images[0].name}")
    return found


def _common_tail(name: str, image: Path) -> int:
    """How many of the last parts of two paths are equal."""
    pairs = zip(reversed(PurePosixPath(name).parts), reversed(image.parts), strict=False)
    return next((count for count, (a, b) in enumerate(pairs) if a != b), len(image.parts))


def _label(
    index: int,
    annotation: Mapping[str, Any],
    classes: Mapping[Any, int],
    entry: Mapping[str, Any],
) -> Label:
    category = annotation["category_id"]
    if category not in classes:
        raise ValueError(f"category {category!r} is not in the list of categories")
    left, top, width, height = _numbers(annotation.get("bbox"), 4)
    right, bottom = left + width, top + height
    limits = (_limit(entry, "width"), _limit(entry, "height"))
    box = (max(left, 0.0), max(top, 0.0), min(right, limits[0]), min(bottom, limits[1]))
    if width <= 0 or height <= 0 or box[0] >= box[2] or box[1] >= box[3]:
        raise ValueError("box is empty or outside the image")
    area = annotation.get("area")
    size = width * height if area is None else _numbers([area], 1)[0]
    return Label(index, classes[category], box, size, bool(annotation.get("iscrowd", 0)))


def _limit(entry: Mapping[str, Any], side: str) -> float:
    """A side of the image in pixels; infinite where the json does not say it as a number."""
    value = entry.get(side)
    return float(value) if isinstance(value, int | float) and value > 0 else math.inf


def _numbers(values: Any, count: int) -> list[float]:
    if not isinstance(values, list) or len(values) != count:
        raise ValueError(f"bbox must be {count} numbers")
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
        raise ValueError("NaN or not a number")
    return [float(value) for value in values]
