"""Calibration statistics on disk, as plain arrays under a key of all that they depend on."""

from pathlib import Path
from typing import Any

import numpy as np

from yoloq.base.files import replace_when_whole
from yoloq.base.npz import opened
from yoloq.quant.observer import Collected
from yoloq.quant.statistics import Statistics

FIELDS = ("low", "high", "counts", "means", "deviations", "influence")


def save_statistics(file: Path, collected: Collected, key: str) -> None:
    """Write an npz file whole."""
    arrays: dict[str, Any] = {"key": np.array(key)}
    for name, statistics in collected.inputs.items():
        arrays |= {f"input/{name}/{f}": np.asarray(getattr(statistics, f)) for f in FIELDS}
    for name, pair in collected.outputs.items():
        arrays[f"output/{name}"] = np.array(pair)
    with replace_when_whole(file) as temporary, open(temporary, "wb") as stream:
        np.savez_compressed(stream, **arrays)


def load_statistics(file: Path, key: str) -> Collected | None:
    """What `save_statistics` wrote under this key; None where that is missing or damaged."""
    try:
        return _load(file, key)
    except (OSError, ValueError, KeyError):
        return None  # it is only a cache: collect again


def _load(file: Path, key: str) -> Collected | None:
    with opened(file) as data:
        if str(data["key"]) != key:
            return None
        names = [name.split("/")[1] for name in data.files if name.endswith("/counts")]
        inputs = {name: _read(data, name) for name in names}
        outputs = {
            name.removeprefix("output/"): (float(data[name][0]), float(data[name][1]))
            for name in data.files
            if name.startswith("output/")
        }
    return Collected(inputs, outputs)


def _read(data: Any, name: str) -> Statistics:
    values = {field: data[f"input/{name}/{field}"] for field in FIELDS}
    values |= {edge: float(values[edge]) for edge in ("low", "high")}
    return Statistics(**values)
