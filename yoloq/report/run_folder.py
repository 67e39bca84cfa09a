"""A run folder as the report reads it: what its stages found, and what they left to be drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from yoloq.base.config import StageConfig
from yoloq.base.errors import RunError
from yoloq.base.own_files import MAKE
from yoloq.base.result import Row, StageResult, read_result
from yoloq.base.say import warn
from yoloq.measure.record import Records
from yoloq.report.repeat import make_command

STAGES = ("baseline", "ptq", "qat")  # engine-*.json follow, in the order of their names
BESIDE = ("sensitivity", "search", "diagnose", "swap")  # whose rows are in no common table
ENGINE = "engine-"
SUBJECT = ("weights", "data", "imgsz", "device", "limit", "single_cls")  # options of all stages


@dataclass(frozen=True)
class RunFolder:
    """The results of a run.

    `results` are those of the common table, in the order of the flow; `beside` the others by stage;
    `commands` repeat it all.
    """

    folder: Path
    results: tuple[StageResult, ...]
    beside: Mapping[str, StageResult]
    commands: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What people call it."""
        return self.folder.name

    @property
    def engines(self) -> list[StageResult]:
        """Results of engines."""
        return [result for result in self.results if result.stage.startswith(ENGINE)]

    @property
    def pairs(self) -> list[tuple[Row, StageResult]]:
        """Every row of the common table with its result."""
        return [(row, result) for result in self.results for row in result.rows]

    def result(self, stage: str) -> StageResult | None:
        """The result of a stage; None: it did not run."""
        common = {result.stage: result for result in self.results}
        return common.get(stage) or self.beside.get(stage)

    def records(self, stage: str) -> Records | None:
        """What a stage's rows left; None where an earlier version ran it."""
        result = self.result(stage)
        if result is None or "record" not in result.artifacts:
            return None
        return Records.load(self.folder / result.artifacts["record"])

    def command(self, target: str, extra: str = "") -> str:
        """The `make` line of a stage on this run's model and data, in this folder."""
        made, defaults = self.results[0].config, asdict(StageConfig())
        given = {name: made[name] for name in SUBJECT if name in made}
        return make_command(target, in_folder(self.folder, defaults | given), defaults, extra)


def open_run(folder: Path, defaults: Mapping[str, Mapping[str, Any]]) -> RunFolder:
    """Read a run folder; what is of another model or data than the rest is left out and named.

    Args:
        defaults: options of each stage with their defaults, by its name.

    Raises:
        RunError: the folder holds no results, or one is damaged.
    """
    results = without_stale(folder, read_results(folder))
    beside = {}
    for stage in BESIDE:
        found = read_result(folder / f"{stage}.json")
        if found is not None and _model(found) != _model(results[0]):
            warn(f"{folder / stage}.json is of other weights or data: left out; run it again")
        elif found is not None:
            beside[stage] = found
    every = [*results, *beside.values()]
    commands = [_repeat(folder, result, defaults) for result in every]
    return RunFolder(folder, tuple(results), beside, tuple(commands))


def in_folder(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Options with the run folder as it is called now: it may have been moved since."""
    usual = StageConfig(weights=config["weights"], data=config["data"], project=str(folder.parent))
    name = "" if usual.folder == folder else folder.name
    return {**config, "project": usual.project, "name": name}


def _repeat(folder: Path, result: StageResult, defaults: Mapping[str, Mapping[str, Any]]) -> str:
    stage, _, engine = result.stage.partition("-")
    named = {"engine": engine} if engine else {}
    config = in_folder(folder, {**defaults[stage], **result.config, **named})
    return make_command(stage, config, defaults[stage])


def read_results(folder: Path) -> list[StageResult]:
    """Results of the common table, in the order of the flow.

    Raises:
        RunError: there is none.
    """
    files = [folder / f"{stage}.json" for stage in STAGES]
    files += sorted(folder.glob(f"{ENGINE}*.json"))
    results = [result for file in files if (result := read_result(file)) is not None]
    if not results:
        raise RunError(f"{folder}: holds no results; run {MAKE} baseline or {MAKE} engine first")
    return results


def without_stale(folder: Path, results: Sequence[StageResult]) -> list[StageResult]:
    """Results of the newest baseline's weights and data, engines of the newest int8 model.

    A stage that ran again in the same folder leaves what was built on it behind; one table of both
    would compare different models.
    """
    keys: dict[str, str] = {}  # what may be built on; one that was left out may not
    kept = []
    for result in results:
        current = keys.get(result.notes.get("quantized", ""))
        alike = _subject(result) == _subject(results[0])
        if alike and current in (None, result.notes.get("quantized_key")):
            kept.append(result)
            keys[result.stage] = result.key
        else:
            keys[result.stage] = ""
            warn(
                f"{folder / result.stage}.json is of other weights, data or calibration "
                "than the rest of the run: left out; run that stage again"
            )
    return kept


def _subject(result: StageResult) -> tuple[Any, ...]:
    """What two results must have in common to stand in one table."""
    return *_model(result), result.data["images"]


def _model(result: StageResult) -> tuple[Any, ...]:
    """Weights, data and image size; a search may look at fewer images than the rest."""
    data = result.data
    return result.weights.get("sha256"), data.get("sha256"), data["imgsz"]
