"""Which class each category of a COCO json is."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from yoloq.base.errors import DataError
from yoloq.data.classes import SHOWN, by_name, repeated


def match_categories(
    file: Path, document: Mapping[str, Any], names: Sequence[str] | None
) -> tuple[dict[Any, int], str]:
    """Category id -> index into `names`, and what the user has to know of it (or nothing).

    Categories that no annotation uses are left out: exports list parents that are no class. They
    go by name, else by the order of their ids, which is taken only where there are as many
    categories as names and no name that both sides have stands elsewhere.

    Args:
        names: of the classes; None: all categories are class 0.

    Raises:
        DataError: two categories have one name, or neither way fits.
    """
    listed = sorted(document["categories"], key=lambda item: _order(item["id"]))
    if names is None:
        return {category["id"]: 0 for category in listed}, ""
    ids = {annotation["category_id"] for annotation in document["annotations"]}
    used = [category for category in listed if category["id"] in ids]
    titles = [str(category["name"]) for category in used]
    if (twice := repeated(titles)) is not None:
        both = [repr(category["id"]) for category in used if str(category["name"]) == twice]
        raise DataError(
            f"{file}: categories {' and '.join(both)} are both named '{twice}'; rename one, or "
            "give their annotations one id"
        )
    found = by_name(titles, names)
    if None not in found:
        return _by_id(used, found), ""
    for counted in (listed, used):
        if len(counted) == len(names) and _confirmed(counted, names):
            return _by_id(counted, range(len(names))), _by_order(file, counted, names)
    unknown = found.index(None)
    raise DataError(
        f"{file}: category '{titles[unknown]}' is not in the data yaml's {len(names)} names; "
        "write it there as here, or take its annotations out of the json"
    )


def _order(identity: int | str) -> tuple[bool, int, str]:
    """Ids as numbers, be they quoted, before those that are words."""
    text = str(identity)
    return (False, int(text), "") if text.isdecimal() else (True, 0, text)


def _confirmed(categories: Sequence[Mapping[str, Any]], names: Sequence[str]) -> bool:
    """Whether every category that has a name of the yaml is at its place in the order."""
    found = by_name([str(category["name"]) for category in categories], names)
    return all(place in (None, index) for index, place in enumerate(found))


def _by_id(categories: Sequence[Mapping[str, Any]], places: Any) -> dict[Any, int]:
    pairs = zip(categories, places, strict=True)
    return {category["id"]: place for category, place in pairs if place is not None}


def _by_order(file: Path, categories: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    pairs = [(str(each["name"]), name) for each, name in zip(categories, names, strict=True)]
    differing = [f"'{title}' as '{name}'" for title, name in pairs if title != name]
    more = f" and {len(differing) - SHOWN} more" * (len(differing) > SHOWN)
    return (
        f"{file}: categories are not named as in the data yaml and are taken in the order of their "
        f"ids: {', '.join(differing[:SHOWN])}{more}; mend `names` where that is wrong"
    )
