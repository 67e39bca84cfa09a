"""What the entries of a data yaml mean, each on its own."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yoloq.base.errors import DataError
from yoloq.base.nested import plain_parts, reached
from yoloq.base.own_files import folder_of_drawn
from yoloq.base.square import side_of
from yoloq.data.classes import repeated
from yoloq.data.image_files import check_escapes, portable, read_text, spellings

SPLITS = ("train", "val", "test")
MOST = 1_000_000  # entries, each alias counted for what it stands for
MOST_CLASSES = 100_000  # the largest public detection set, V3Det, has 13,204
KEYS = {*SPLITS, "path", "names", "nc", "imgsz", "annotations", "generate", "download"}


def read_yaml(file: Path) -> dict[str, Any]:
    """The content of a data yaml.

    Raises:
        DataError: it is missing, is no yaml, or not that of a data set.
    """
    import yaml

    if not file.exists():
        raise DataError(f"{file}: no such file; give the yaml of a data set with --data")
    try:
        document = yaml.load(read_text(file), _loader())
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        problem = " ".join(str(getattr(error, "problem", "") or "broken").split())
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        raise DataError(f"{file}: is not a yaml file ({problem}{line}); mend it") from None
    if not isinstance(document, dict) or not KEYS & document.keys():
        raise DataError(f"{file}: is not a data set yaml; it needs `val` and `names`")
    if reached(document, plain_parts) > MOST:
        raise DataError(
            f"{file}: its aliases (*name) come to more than {MOST:,} entries; write out what they "
            "stand for"
        )
    return document


def _loader() -> Any:
    """YAML's safe loader, which makes plain data alone, with an end to keys that are merged."""
    import yaml

    class Loader(yaml.SafeLoader):
        def flatten_mapping(self, node: Any) -> None:
            super().flatten_mapping(node)
            if len(node.value) > MOST:
                raise yaml.constructor.ConstructorError(problem="merges (<<) without end")

    return Loader


def names_of(file: Path, document: Mapping[str, Any]) -> tuple[str, ...]:
    """The class names in the order of the labels; `class0` and on where only `nc` is given.

    Raises:
        DataError: there are none, not one for each number, or two that are equal.
    """
    names, count = document.get("names"), _number(document.get("nc"))
    if isinstance(count, int) and count > MOST_CLASSES:
        raise DataError(f"{file}: nc is beyond {MOST_CLASSES:,} classes; mend it")
    if names is None and isinstance(count, int) and count > 0:
        names = [f"class{index}" for index in range(count)]
    if isinstance(names, dict):
        by_number = {_number(key): name for key, name in names.items()}
        if len(by_number) < len(names) or {*by_number} != {*range(len(names))}:
            raise DataError(f"{file}: keys of `names` must be 0 to {len(names) - 1}, each once")
        names = [by_number[index] for index in range(len(names))]
    if not isinstance(names, list) or not names:
        raise DataError(f"{file}: has no `names`; list the class names in the order of the labels")
    if odd := [name for name in names if isinstance(name, list | dict)]:
        kind = type(odd[0]).__name__
        raise DataError(f"{file}: `names` has a {kind}, which is no name; write one a line")
    if count is not None and count != len(names):
        raise DataError(f"{file}: nc is {count} but `names` has {len(names)}; drop `nc` or mend it")
    listed = tuple(str(name) for name in names)
    if (twice := repeated(listed)) is not None:
        raise DataError(f"{file}: `names` has '{twice}' twice; rename one of the two")
    return listed


def _number(value: Any) -> Any:
    """A whole number that is quoted as text, as a number; anything else as it is."""
    return int(value) if isinstance(value, str) and value.strip().isdecimal() else value


def root_of(file: Path, document: Mapping[str, Any]) -> Path:
    """Folder that the splits are relative to, whether or not it exists yet.

    Raises:
        DataError: `path` is no text, or yaml read a backslash of it as an escape.
    """
    path = document.get("path") or "."
    if not isinstance(path, str):
        raise DataError(f"{file}: `path` must be the name of a folder")
    check_escapes(path, f"{file}: `path`")
    drawn = "generate" in document
    bases = (folder_of_drawn(file),) if drawn else (file.parent, Path.cwd())
    tries = [base / each for base in bases for each in spellings(path)]
    root = next((each for each in tries if each.exists()), bases[0] / portable(path))
    return Path(os.path.normpath(root))


def generate(file: Path, document: Mapping[str, Any], root: Path) -> None:
    """Make the set that the yaml wants made.

    Raises:
        DataError: it is not known, or other files are in its place.
    """
    kind = document.get("generate")
    if kind is None:
        return
    if kind != "synthetic":
        raise DataError(f"{file}: `generate: {kind}` is not known; there is `synthetic`")
    from yoloq.data import synthetic

    synthetic.ensure(root)


def imgsz_of(file: Path, document: Mapping[str, Any]) -> int | None:
    """The image size in pixels that the set was made for; None: it does not say.

    Raises:
        DataError: it is no size of a square.
    """
    imgsz = document.get("imgsz")
    if imgsz is None:
        return None
    try:
        if side := side_of(imgsz):
            return side
        raise ValueError("must be above 0; drop it for the usual size")
    except ValueError as error:
        raise DataError(f"{file}: `imgsz: {imgsz}`: {error}") from None
