"""What every stage opens first: model, data set, labels; and how a finished stage is reused."""

import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from ..config import StageConfig
from ..data.dataset import Dataset, read_dataset
from ..data.labels import read_ground_truth
from ..data.loader import check_imgsz
from ..detections import GroundTruth
from ..environment import environment
from ..errors import DataError
from ..models import LoadedModel, load_model
from ..results import Row, StageResult, input_key, read_result

C = TypeVar("C", bound=StageConfig)

NOT_INPUTS = ("project", "name", "workers", "force")  # options that cannot change a result


def say(text: str) -> None:
    """Tell the user what is going on; results go to stdout, this to stderr."""
    print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Inputs:
    """The opened inputs of a stage; `model` is fused."""

    config: StageConfig
    model: LoadedModel
    dataset: Dataset
    imgsz: int
    images: tuple[Path, ...]

    @cached_property
    def truth(self) -> GroundTruth:
        """Labels of `images`; label problems are reported once."""
        truth, report = read_ground_truth(self.dataset, "val", self.images)
        for line in report.lines():
            say(f"warning: {line}")
        return truth

    @property
    def nc(self) -> int:
        """Number of classes."""
        return len(self.model.names)

    def without(self, skipped: list[Path]) -> "Inputs":
        """The same without images that cannot be read."""
        left = tuple(image for image in self.images if image not in set(skipped))
        return Inputs(self.config, self.model, self.dataset, self.imgsz, left)

    def key(self, stage: str, **more: Any) -> str:
        """Hash of all that the stage's result depends on."""
        options = {k: v for k, v in asdict(self.config).items() if k not in NOT_INPUTS}
        for name in ("weights", "data"):
            options.pop(name)  # their content counts, not their place
        return input_key(
            stage=stage,
            options=options,
            weights=self.model.sha256,
            data=self.dataset.sha256,
            imgsz=self.imgsz,
            versions=environment()["versions"],
            **more,
        )

    def result(self, stage: str, key: str, rows: list[Row], **more: Any) -> StageResult:
        """A stage's result with the parts that all stages state."""
        config = self.config
        return StageResult(
            stage=stage,
            key=key,
            config=asdict(config),
            environment=environment(),
            weights={"path": str(config.weights), "sha256": self.model.sha256},
            data={
                "path": str(config.data),
                "sha256": self.dataset.sha256,
                "images": len(self.images),
                "imgsz": self.imgsz,
            },
            rows=tuple(rows),
            **more,
        )


def open_inputs(config: StageConfig) -> Inputs:
    """Load and check the model and the data set.

    Raises:
        UserError: either cannot be used, they do not fit each other, or `imgsz` fits neither.
    """
    model = load_model(config.weights)
    dataset = read_dataset(config.data)
    imgsz = check_imgsz(
        config.imgsz or dataset.imgsz or model.imgsz or 640, max(model.head.strides)
    )
    if len(dataset.names) != len(model.names):
        raise DataError(
            f"{config.data}: has {len(dataset.names)} classes, but {config.weights} has "
            f"{len(model.names)}; give the data set that the checkpoint was trained for"
        )
    images = dataset.images("val")
    return Inputs(config, model, dataset, imgsz, images[: config.limit or None])


def finished(folder: Path, stage: str, key: str, force: bool) -> StageResult | None:
    """The result of a stage that already ran with the same inputs and still has its files."""
    if force:
        return None
    result = read_result(folder / f"{stage}.json")
    if result is None or result.key != key:
        return None
    if not all((folder / name).exists() for name in result.artifacts.values()):
        return None
    say(f"{stage}: {folder / (stage + '.json')} is up to date (--force redoes it)")
    return result


def as_config(config: StageConfig, other: type[C], **changes: Any) -> C:
    """Another stage's config with the options that both have, and the given ones."""
    mine = asdict(config)
    shared = {field.name: mine[field.name] for field in fields(other) if field.name in mine}
    return other(**shared | changes)


def earlier(
    inputs: Inputs, stage: str, run: Callable[[Any], StageResult], config: type[C]
) -> StageResult:
    """Result of a stage that this one reads; runs it with its defaults where there is none.

    An existing result is taken with whatever options it was made, if it is of the same weights,
    data, image size and images.
    """
    folder = inputs.config.folder
    result = read_result(folder / f"{stage}.json")
    if result is not None and _same_subject(result, inputs):
        return result
    reason = "is missing" if result is None else "is of other weights, data or image size"
    say(f"{folder / (stage + '.json')} {reason}: running {stage} first")
    return run(as_config(inputs.config, config, force=False))


def _same_subject(result: StageResult, inputs: Inputs) -> bool:
    return (
        result.weights["sha256"] == inputs.model.sha256
        and result.data["sha256"] == inputs.dataset.sha256
        and result.data["imgsz"] == inputs.imgsz
        and result.config["limit"] == inputs.config.limit
    )
