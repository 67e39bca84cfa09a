"""What a run folder holds in the end: results without times, hashes, files that are not whole."""

import json
import zipfile
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from yoloq.base.files import sha256

TIMES = (  # parts of a result, and files, in which two runs that were left alone differ
    *("seconds", "ms", "float_ms", "latency_ms", "path_ms", "throughput", "fps", "images_s"),
    *("floors", "slow", "time_ratio", "environment", "config", "folder", "qat.csv", "swap.csv"),
)


def outcome(run: Path, chosen: Iterable[str] = ()) -> dict[str, Any]:
    """All results in a run folder without times, and the hashes of its checkpoints.

    Args:
        chosen: patterns of what follows from times.
    """
    documents = {place(file, run): json.loads(file.read_text()) for file in run.rglob("*.json")}
    results = {k: v for k, v in documents.items() if isinstance(v, dict) and "hashes" in v}
    weights = {place(file, run): sha256(file) for file in run.rglob("*.pt")}
    found: dict[str, Any] = _timeless(results | weights, (*TIMES, *chosen))
    return found


def place(file: Path, folder: Path) -> str:
    """Where a file lies within a folder."""
    return file.relative_to(folder).as_posix()


def _timeless(value: Any, left_out: tuple[str, ...]) -> Any:
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if not any(fnmatch(k, each) for each in left_out)}
        return {k: _timeless(v, left_out) for k, v in kept.items()}
    return [_timeless(item, left_out) for item in value] if isinstance(value, list) else value


def differences(one: Any, other: Any, where: str = "") -> list[str]:
    """Names of the parts in which two results differ."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        pairs = [(f"{where}.{key}", value, other[key]) for key, value in one.items()]
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = [(f"{where}.{i}", *pair) for i, pair in enumerate(zip(one, other, strict=True))]
    else:
        return [] if one == other else [where.lstrip(".")]
    return [name for where, a, b in pairs for name in differences(a, b, where)]


def torn(folder: Path) -> list[str]:
    """Files that are not whole; the last line of a journal may be cut, and what is hidden goes."""
    files = (file for file in folder.rglob("*") if "/." not in f"/{place(file, folder)}")
    return [file.name for file in files if not _is_whole(file)]


def _is_whole(file: Path) -> bool:
    try:
        if file.suffix == ".json":
            json.loads(file.read_text())
        elif file.suffix in (".pt", ".npz"):
            with zipfile.ZipFile(file) as archive:
                return archive.testzip() is None
    except (ValueError, zipfile.BadZipFile):
        return False
    return True
