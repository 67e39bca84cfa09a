"""Which entry of a COCO json each image file has."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from yoloq.base.errors import DataError
from yoloq.data.image_files import portable

Entry = Mapping[str, Any]


def match_images(
    file: Path, entries: Sequence[Entry], images: Sequence[Path]
) -> dict[Any, tuple[int, Entry]]:
    """Image id -> (position in `images`, the json's entry), by file name.

    An image is the entry whose name is the end of its path, folders included. Where there is not
    one such image the json was written for other folders: then as many last parts as agree count.

    Raises:
        DataError: no image is listed, one is listed twice, or a name fits several alike.
    """
    names = {portable_name(entry): entry for entry in entries}
    if len(names) < len(entries):
        _raise_twice(file, entries)
    paths = [PurePosixPath(portable(image.as_posix())).as_posix() for image in images]
    found = _matched(file, {name: [name] for name in names}, paths)
    if not found:
        ends: dict[str, list[str]] = defaultdict(list)
        for name in names:
            for end in _ends(name):
                ends[end].append(name)
        found = _matched(file, ends, paths)
    if not found:
        raise DataError(
            f"{file}: lists none of the images, such as {example(entries, images)}; give the json "
            "of these images"
        )
    return {names[name]["id"]: (index, names[name]) for name, index in found.items()}


def portable_name(entry: Entry) -> str:
    """The file name of an entry, with / between its folders."""
    return PurePosixPath(portable(str(entry["file_name"]))).as_posix()


def _ends(path: str) -> list[str]:
    """The path and what is left of it without its first folders, the longest first."""
    parts = path.split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]


def _matched(
    file: Path, known: Mapping[str, Sequence[str]], paths: Sequence[str]
) -> dict[str, int]:
    """Name in the json -> position of its image: the one that agrees in the longest end.

    Args:
        known: end of a path -> the names that it may stand for.
    """
    claims: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for index, path in enumerate(paths):
        end = next((end for end in _ends(path) if end in known), None)
        if end is None:
            continue
        if len(known[end]) > 1:
            _raise_alike(file, paths[index], known[end])
        claims[known[end][0]].append((len(end), index))
    found = {}
    for name, claim in claims.items():
        longest = max(claim)[0]
        closest = [index for length, index in claim if length == longest]
        if len(closest) > 1:
            _raise_alike(file, name, [paths[index] for index in closest])
        found[name] = closest[0]
    return found


def _raise_alike(file: Path, name: str, others: Sequence[str]) -> None:
    raise DataError(
        f"{file}: {name} may be {others[0]} or {others[1]}; write the folders into `file_name`"
    )


def _raise_twice(file: Path, entries: Iterable[Entry]) -> None:
    seen: dict[str, Any] = {}
    for entry in entries:
        name = portable_name(entry)
        if name in seen:
            raise DataError(
                f"{file}: lists {name} twice (ids {seen[name]!r} and {entry['id']!r}); write the "
                "folders into `file_name`, or make one image of the two"
            )
        seen[name] = entry["id"]


def example(entries: Sequence[Entry], missing: Sequence[Path]) -> str:
    """One of the images that are not listed, with the likely reason where there is one."""
    names = [portable_name(entry) for entry in entries]
    reasons = {
        "in another folder": lambda name: name,
        "upper and lower case differ": str.casefold,
        "another suffix": lambda name: name.rpartition(".")[0].casefold(),
    }
    for reason, key in reasons.items():
        listed = {key(name.rpartition("/")[2]): name for name in names}
        for image in missing:
            if near := listed.get(key(image.name)):
                return f"{image.parent.name}/{image.name} (the json has {near}: {reason})"
    return missing[0].name
