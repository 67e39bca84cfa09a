"""The content of a COCO json: three lists, checked as far as the rest relies on them."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yoloq.base.errors import DataError
from yoloq.data.image_files import read_text


def read_coco(source: Path) -> dict[str, Any]:
    """Read a COCO json and check the ids and names in its three lists.

    Raises:
        DataError: not json, a list is missing or malformed, or two images or categories have one
            id.
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
    for key, what in (("images", "image"), ("categories", "category")):
        ids = Counter(item["id"] for item in document[key])
        if len(ids) < len(document[key]):
            twice = ids.most_common(1)[0][0]
            raise DataError(f"{source}: {what} id {twice!r} occurs twice; give each {what} its own")
    return document


def _has(item: Any, fields: Sequence[str]) -> bool:
    return isinstance(item, dict) and all(isinstance(item.get(f), int | str) for f in fields)


def numbers(values: Any, count: int) -> list[float]:
    """`count` finite numbers of a json list.

    Raises:
        ValueError: it is not that; the text says why.
    """
    if not isinstance(values, list) or len(values) != count:
        raise ValueError(f"bbox must be {count} numbers")
    if not all(isinstance(value, int | float) and abs(value) < float("inf") for value in values):
        raise ValueError("NaN or not a number")
    return [float(value) for value in values]
