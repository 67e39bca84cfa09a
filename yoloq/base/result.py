"""`<stage>.json`: what a stage found, with everything that the figures depend on."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from yoloq.base.errors import RunError
from yoloq.base.files import sha256, sha256_text, write_text

SCHEMA = 1
MACHINE = "@"  # in a key: before the hash of the machine that times are of


@dataclass(frozen=True)
class Row:
    """One line of the report: a model in one precision on one engine.

    mAP, delta and fidelity are fractions; `delta` is against the FP32 baseline on the same images
    and `delta_ci95` its paired bootstrap interval. `latency_ms` is of the model alone, `path_ms`
    from the image file to its boxes, `throughput` (images a second) the same with several images
    under way; each has how it was taken, such as the batch. `float_type` is the type of what is not
    int8; `float_layers` names the convolutions that an int8 model keeps in it. `simulated` says
    that int8 was computed in float, so that the row claims no speed.
    """

    name: str
    precision: str
    engine: str
    map50_95: float | None = None
    map50: float | None = None
    delta: float = 0.0
    delta_ci95: tuple[float, float] = (0.0, 0.0)
    fidelity: float = 1.0
    latency_ms: dict[str, Any] | None = None
    path_ms: dict[str, Any] | None = None
    throughput: dict[str, Any] | None = None
    fps: float | None = None
    size_bytes: int | None = None
    float_type: str = "fp32"
    float_layers: tuple[str, ...] | None = None
    simulated: bool = False

    @property
    def measured(self) -> bool:
        """Whether it has figures."""
        return self.map50_95 is not None

    @property
    def ap(self) -> float:
        """AP50-95 of a row that has figures, as every one of PyTorch has."""
        assert self.map50_95 is not None, f"{self.name} ({self.engine}) was not measured"
        return self.map50_95


@dataclass(frozen=True)
class StageResult:
    """The content of a stage's JSON file.

    `key` is the hash of all its inputs; `artifacts` names the files it wrote beside the JSON and
    `hashes` has their SHA-256 by file name.
    """

    stage: str
    key: str
    config: dict[str, Any]
    environment: dict[str, Any]
    weights: dict[str, Any]
    data: dict[str, Any]
    rows: tuple[Row, ...]
    artifacts: dict[str, str] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA

    @property
    def timeless_key(self) -> str:
        """The key without the machine: what depends on the figures but not on the times has it."""
        return self.key.partition(MACHINE)[0]

    def write(self, file: Path) -> None:
        """Write the file whole."""
        write_text(file, json.dumps(asdict(self), indent=1) + "\n")

    def damaged(self, folder: Path) -> list[str]:
        """Names of the artifacts in `folder` that are missing or not those the stage wrote.

        A run that was killed halfway leaves some files new and some old; so do a copy that was cut
        and a file of another run.
        """
        names = self.artifacts.values()
        return [name for name in names if _hash(folder / name) != self.hashes.get(name)]


def hashes(folder: Path, artifacts: Mapping[str, str]) -> dict[str, str]:
    """SHA-256 of each artifact by file name."""
    return {name: sha256(folder / name) for name in artifacts.values()}


def _hash(file: Path) -> str | None:
    return sha256(file) if file.is_file() else None


def read_result(file: Path) -> StageResult | None:
    """What `write` wrote; None where there is no such file.

    Raises:
        RunError: the file is damaged or of another schema.
    """
    if not file.is_file():
        return None
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        if data["schema"] != SCHEMA:
            raise ValueError(f"schema {data['schema']}, not {SCHEMA}")
        known = {item.name for item in fields(StageResult)}
        data = {name: value for name, value in data.items() if name in known}
        rows = tuple(_row(row) for row in data.pop("rows"))
        _check_kinds(data)
        return StageResult(rows=rows, **data)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RunError(f"{file}: not a result of this version ({error}); redo the stage") from None


def _check_kinds(data: Mapping[str, Any]) -> None:
    """Raise a ValueError where a part is of another kind, or an artifact lies elsewhere."""
    for name, value in data.items():
        kind = str if name in ("stage", "key") else int if name == "schema" else dict
        if not isinstance(value, kind):
            raise ValueError(f"`{name}` is a {type(value).__name__}")
    for name in data.get("artifacts", {}).values():
        if not isinstance(name, str) or Path(name).is_absolute() or ".." in Path(name).parts:
            raise ValueError(f"artifact {name!r} is not in its folder")


def _row(data: dict[str, Any]) -> Row:
    texts = (data["name"], data["precision"], data["engine"])
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("a row has no name")
    lists = {name: tuple(v) for name, v in data.items() if isinstance(v, list)}
    return Row(**{**data, **lists})


def input_key(**parts: Any) -> str:
    """Hash of a stage's inputs; equal inputs give equal results."""
    return sha256_text(json.dumps(parts, sort_keys=True, default=str))
