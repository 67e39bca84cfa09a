"""What a measured row leaves for the report: its boxes, and its AP on resamples of the images."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yoloq.base.files import replace_when_whole
from yoloq.base.npz import opened
from yoloq.geometry.detections import Detections

KEPT = 0.1  # least score: below what people are shown, to tell a box that is gone from a weak one


@dataclass(frozen=True)
class Record:
    """Of one row: the boxes that score `KEPT` or more, and `bootstrap.resampled` of its matches.

    Two rows that were measured on the same images can be compared by it in pairs, whatever runs
    they are of: all are resampled with one seed.
    """

    found: Detections
    precision: NDArray[np.float64]


@dataclass(frozen=True)
class Records:
    """Those of a stage, by the precision of the row.

    `files` are the images in the order in which boxes count them, `names` the classes.
    """

    files: tuple[str, ...]
    names: tuple[str, ...]
    rows: Mapping[str, Record]

    def save(self, file: Path) -> None:
        """Write an npz file whole."""
        arrays: dict[str, Any] = {"files": np.array(self.files), "names": np.array(self.names)}
        arrays["rows"] = np.array(list(self.rows))
        for key, record in self.rows.items():
            arrays[f"{key}/precision"] = record.precision
            arrays |= {f"{key}/{name}": value for name, value in vars(record.found).items()}
        with replace_when_whole(file) as temporary, open(temporary, "wb") as stream:
            np.savez_compressed(stream, **arrays)

    @staticmethod
    def load(file: Path) -> "Records | None":
        """What `save` wrote; None where it is missing or damaged."""
        try:
            with opened(file) as data:
                rows = {key: _read(data, key) for key in data["rows"].tolist()}
                return Records(tuple(data["files"].tolist()), tuple(data["names"].tolist()), rows)
        except (OSError, ValueError, KeyError):
            return None


def _read(data: Any, key: str) -> Record:
    values = {item.name: data[f"{key}/{item.name}"] for item in fields(Detections)}
    values["images"] = int(values["images"])
    return Record(Detections(**values), data[f"{key}/precision"])


def above(detections: Detections, score: float = KEPT) -> Detections:
    """The detections with at least that score."""
    kept = detections.scores >= score
    return Detections(
        detections.images,
        detections.image[kept],
        detections.boxes[kept],
        detections.scores[kept],
        detections.classes[kept],
    )
