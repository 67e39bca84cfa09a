"""The content of a COCO json: three lists, checked as far as the rest relies on them."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from yoloq.base.errors import DataError
from yoloq.data.image_files import read_text


def read_coco(source: Path) -> dict[str, Any]:
    """Read a COCO json and check the ids and names in its three lists.

    Ids that are whole numbers are such in the result, however they are written: tools write 7, "7"
    and 7.0, in one list this way and in another that.

    Raises:
        DataError: not json, a list is missing or malformed, or two images or categories have one
            id.
    """
    try:
        document = json.loads(read_text(source))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{source}: is not a json file ({error}); export it again") from None
    keys = {
        "images": ("id", "file_name"),
        "annotations": ("image_id", "category_id"),
        "categories": ("id", "name"),
    }
    for key, fields in keys.items():
        items = document.get(key) if isinstance(document, dict) else None
        if not isinstance(items, list):
            raise DataError(f"{source}: is not a COCO json: its list `{key}` is missing; add it")
        document[key] = [_checked(source, key, at, item, fields) for at, item in enumerate(items)]
    for key, what in (("images", "image"), ("categories", "category")):
        ids = Counter(item["id"] for item in document[key])
        if len(ids) < len(document[key]):
            twice = ids.most_common(1)[0][0]
            raise DataError(f"{source}: {what} id {twice!r} occurs twice; give each {what} its own")
    return document


def _checked(source: Path, key: str, at: int, item: Any, fields: Sequence[str]) -> dict[str, Any]:
    """An entry of a list, its ids as `_identity` gives them."""
    where = f"entry {at} of `{key}`"
    if not isinstance(item, dict):
        raise DataError(f"{source}: is not a COCO json: {where} is {type(item).__name__}; mend it")
    for name in fields:
        value = item.get(name)
        value = item[name] = _identity(value) if "id" in name else value
        if not isinstance(value, int | str):
            raise DataError(
                f"{source}: {where} has no usable `{name}` ({value!r}); mend it or take it out"
            )
    return item


def _identity(value: Any) -> Any:
    """A whole number as an int, be it written as text or with a point; anything else as it is."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    plain = isinstance(value, str) and value.isdecimal() and str(int(value)) == value
    return int(value) if plain else value


def box_of(annotation: Mapping[str, Any]) -> list[float]:
    """x, y, width and height in pixels; those around the outline where no box is written.

    Raises:
        ValueError: there is neither; the text says why.
    """
    outline = annotation.get("segmentation")
    if annotation.get("bbox") or not (outline and isinstance(outline, list)):
        return numbers(annotation.get("bbox"), 4)
    flat = [value for part in outline for value in numbers(part, len(part), "segmentation")]
    left, top = min(flat[0::2]), min(flat[1::2])
    return [left, top, max(flat[0::2]) - left, max(flat[1::2]) - top]


def is_crowd(annotation: Mapping[str, Any]) -> bool:
    """Whether an annotation is of a crowd: 1, true or "1".

    Raises:
        ValueError: it says neither yes nor no.
    """
    try:
        return bool(float(annotation.get("iscrowd") or 0))
    except (TypeError, ValueError):
        raise ValueError(f"iscrowd is {annotation['iscrowd']!r}") from None


def numbers(values: Any, count: int, name: str = "bbox") -> list[float]:
    """`count` finite numbers of a json list, called `name` in an error.

    Raises:
        ValueError: it is not that; the text says why.
    """
    if not isinstance(values, list) or len(values) != count:
        raise ValueError(f"{name} must be {count} numbers")
    if not all(isinstance(value, int | float) and abs(value) < float("inf") for value in values):
        raise ValueError("NaN or not a number")
    return [float(value) for value in values]
