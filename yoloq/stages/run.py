"""What every stage opens first: model, data set, labels; and how a finished stage is reused."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from dataclasses import replace as changed
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from numpy.typing import NDArray

from yoloq.base.config import DEFAULT_IMGSZ, StageConfig
from yoloq.base.errors import RunError
from yoloq.base.files import check_writable
from yoloq.base.machine import affinity, cpu_model, environment, isa_flags, versions
from yoloq.base.result import MACHINE, Row, StageResult, hashes, input_key, read_result
from yoloq.base.say import say, warn
from yoloq.data.dataset import Dataset, read_dataset
from yoloq.data.loader import check_imgsz
from yoloq.data.truth import LabelReport
from yoloq.engines import engine_packages
from yoloq.engines.predictor import ModelInfo
from yoloq.geometry.boxes import Letterbox
from yoloq.geometry.detections import GroundTruth
from yoloq.measure.evaluate import CONF, IOU, MAX_DET, find_boxes
from yoloq.models.heads.decode import Candidates
from yoloq.models.load import LoadedModel
from yoloq.quant.float_weights import load_weights
from yoloq.quant.moved.float_twin import Moved, as_moved
from yoloq.quant.trace import Op, trace

C = TypeVar("C", bound=StageConfig)

NOT_INPUTS = ("project", "name", "workers", "force")  # options that cannot change a result


@dataclass(frozen=True)
class Inputs:
    """The opened inputs of a stage; `model` is fused."""

    config: StageConfig
    model: LoadedModel
    dataset: Dataset
    imgsz: int
    images: tuple[Path, ...]

    @cached_property
    def ops(self) -> list[Op]:
        """The trace of the network: which tensor each convolution reads."""
        return trace(self.model.net)

    @property
    def info(self) -> ModelInfo:
        """What has to travel with an engine of the model."""
        return ModelInfo(self.model.head, self.model.names, self.imgsz)

    @cached_property
    def labels(self) -> tuple[GroundTruth, LabelReport]:
        """Labels of `images`, and what is wrong with them."""
        return self.dataset.truth("val", self.images)

    @property
    def truth(self) -> GroundTruth:
        """Labels of `images`."""
        return self.labels[0]

    @property
    def nc(self) -> int:
        """Number of classes that are told apart in the figures."""
        return len(self.dataset.names)

    def boxes_of(
        self, raws: Sequence[NDArray[Any]], geometries: Sequence[Letterbox]
    ) -> list[Candidates]:
        """Boxes of a batch's raw maps as they are scored: at YOLOv5's thresholds."""
        head, one_class = self.model.head, self.dataset.one_class
        return find_boxes(raws, head, geometries, CONF, IOU, MAX_DET, one_class)

    def without(self, skipped: list[Path]) -> "Inputs":
        """The same without images that cannot be read."""
        left = tuple(image for image in self.images if image not in set(skipped))
        return self.on(left)

    def on(self, images: tuple[Path, ...]) -> "Inputs":
        """The same on other images."""
        return self._alike(images=images)

    def as_moved(self, factors: Moved) -> "Inputs":
        """The same, the scales of its float model moved as those of a quantized one were."""
        if not factors:
            return self
        return self._alike(model=as_moved(self.model, factors, self.ops))

    def _alike(self, **changes: Any) -> "Inputs":
        other = changed(self, **changes)
        if "ops" in self.__dict__:  # a trace costs a forward pass
            other.__dict__["ops"] = self.ops
        return other

    def key(self, stage: str, without: Sequence[str] = (), timed: bool = False, **more: Any) -> str:
        """Hash of all that the stage's result depends on.

        Args:
            without: options that it does not depend on, or only through what `more` has.
            timed: it has times, which are those of this machine.
        """
        left = {*NOT_INPUTS, *without}
        options = {k: v for k, v in asdict(self.config).items() if k not in left}
        for name in ("weights", "data"):
            options.pop(name)  # their content counts, not their place
        key = input_key(
            stage=stage,
            options=options,
            weights=self.model.sha256,
            data=self.dataset.sha256,
            imgsz=self.imgsz,
            versions=package_versions(),
            **more,
        )
        return key + MACHINE + input_key(**machine(self.config.device)) if timed else key

    def result(
        self, stage: str, key: str, rows: list[Row], artifacts: Mapping[str, str], **more: Any
    ) -> StageResult:
        """A stage's result with the parts that all stages state; its artifacts are written."""
        config = self.config
        return StageResult(
            stage=stage,
            key=key,
            config=asdict(config),
            environment=environment(config.device, engine_packages()),
            weights={"path": str(config.weights), "sha256": self.model.sha256},
            data={
                "path": str(config.data),
                "sha256": self.dataset.sha256,
                "images": len(self.images),
                "imgsz": self.imgsz,
            },
            rows=tuple(rows),
            artifacts=dict(artifacts),
            hashes=hashes(config.folder, artifacts),
            **more,
        )


def package_versions() -> dict[str, str | None]:
    """Versions of all packages that a figure may depend on."""
    return versions(engine_packages())


def machine(device: str) -> dict[str, Any]:
    """What makes a time that of this machine: processor, its instruction sets, cores, GPU."""
    gpu = environment(device)["gpu"]
    return {"cpu": cpu_model(), "isa": isa_flags(), "cores": len(affinity()), "gpu": gpu}


def open_inputs(config: StageConfig) -> Inputs:
    """Load and check the model and the data set.

    Raises:
        UserError: either cannot be used, they do not fit each other, `imgsz` fits neither, or the
            run folder cannot be written.
    """
    check_writable(config.folder)
    model = load_weights(config.weights)
    dataset = open_dataset(config)
    imgsz = image_size(config, dataset, model)
    dataset = dataset.ordered_as(model.names, str(config.weights), str(config.data))
    images = dataset.images("val")
    return Inputs(config, model, dataset, imgsz, images[: config.limit or None])


def open_dataset(config: StageConfig) -> Dataset:
    """The data set that the flags name, with the classes that its yaml lists or as one class.

    Raises:
        DataError: it cannot be used.
    """
    dataset = read_dataset(config.data)
    return dataset.as_one_class() if config.single_cls else dataset


def image_size(config: StageConfig, dataset: Dataset, model: LoadedModel) -> int:
    """The image size in pixels: the flag's, else the data set's, else the checkpoint's, else 640.

    Raises:
        UserError: it is no multiple of the stride; names where it came from.
    """
    sources = {
        "--imgsz": config.imgsz,
        f"{config.data}: imgsz": dataset.imgsz,
        f"{config.weights}: imgsz": model.imgsz,
        "default imgsz": DEFAULT_IMGSZ,
    }
    source, size = next((source, size) for source, size in sources.items() if size)
    return check_imgsz(size, max(model.head.strides), source)


def report_labels(inputs: Inputs) -> None:
    """Warn of bad labels, a line a file; images that cannot be read are named when they are loaded.

    Raises:
        DataError: the labels do not fit the data set's names or images.
    """
    _, report = inputs.labels
    for line in changed(report, unreadable=()).lines():
        warn(f"{line}")


def finished(folder: Path, stage: str, key: str, force: bool) -> StageResult | None:
    """The result of a stage that already ran with the same inputs and still has its files."""
    if force:
        return None
    result = _readable(folder / f"{stage}.json")
    if result is None or result.key != key:
        return None
    if damaged := result.damaged(folder):
        say(f"{folder / damaged[0]} is missing or was changed: running {stage} again")
        return None
    say(f"{stage}: {folder / (stage + '.json')} is up to date (--force redoes it)")
    return result


def as_config(config: StageConfig, other: type[C], **changes: Any) -> C:
    """Another stage's config with the options that both have, and the given ones."""
    mine = asdict(config)
    shared = {field.name: mine[field.name] for field in fields(other) if field.name in mine}
    return other(**shared | changes)


def earlier(
    inputs: Inputs,
    stage: str,
    run: Callable[[Any], StageResult],
    config: type[C],
    **options: Any,
) -> StageResult:
    """Result of a stage that this one reads; runs it where there is none.

    It then runs with its default options but for those that are given here. An existing result is
    taken with whatever options it was made, if it is of the same weights, data, image size and
    images.
    """
    folder = inputs.config.folder
    file = folder / f"{stage}.json"
    result = _readable(file)
    if result is None:
        reason = f"{file} is {'damaged' if file.exists() else 'missing'}"
    elif not _same_subject(result, inputs):
        reason = f"{file} is of other weights, data or image size"
    elif damaged := result.damaged(folder):
        reason = f"{folder / damaged[0]} is missing or was changed"
    else:
        return result
    given = "".join(f" and --{name} {value}" for name, value in options.items())
    say(f"{reason}: running {stage} first, with its default options{given}")
    # not as_config: `--images` of one stage is not that of another
    common = {field.name: getattr(inputs.config, field.name) for field in fields(StageConfig)}
    return run(config(**common | options | {"force": True}))


def existing(inputs: Inputs, stage: str) -> StageResult | None:
    """Result of a stage that ran on the same subject and still has its files."""
    folder = inputs.config.folder
    result = _readable(folder / f"{stage}.json")
    if result is None or not _same_subject(result, inputs) or result.damaged(folder):
        return None
    return result


def _readable(file: Path) -> StageResult | None:
    """A stage's result; None where it is missing or damaged and has to be made again."""
    try:
        return read_result(file)
    except RunError:
        return None


def _same_subject(result: StageResult, inputs: Inputs) -> bool:
    return (
        result.weights["sha256"] == inputs.model.sha256
        and result.data["sha256"] == inputs.dataset.sha256
        and result.data["imgsz"] == inputs.imgsz
        and result.config["limit"] == inputs.config.limit
    )
