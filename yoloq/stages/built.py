"""The engines that a finished run has built, opened as they lie there."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from yoloq.base.config import AUTO, RunConfig
from yoloq.base.errors import EngineError, RunError
from yoloq.base.machine import cpu_model, isa_flags, versions
from yoloq.base.result import StageResult, read_result
from yoloq.base.say import warn
from yoloq.engines import ENGINES, get_engine
from yoloq.engines.base import Engine
from yoloq.engines.predictor import Predictor
from yoloq.stages.end import command, same_run
from yoloq.stages.engine.build import SECOND
from yoloq.stages.engine.stored_gate import StoredGate

RESULT = "engine-"  # before an engine's name: the stage of its result


@dataclass(frozen=True)
class BuiltEngine:
    """One engine file of a run.

    `key` is its name in files and rows: the precision, or `int8-qat` for a second int8 model;
    `title` is what its row is called; `gate` is that of another machine or version, which it has to
    pass here.
    """

    engine: Engine
    key: str
    title: str
    file: Path
    gate: StoredGate | None = None

    @property
    def precision(self) -> str:
        """As the engine calls it."""
        return "int8" if self.key == SECOND else self.key

    def __str__(self) -> str:
        return f"{self.engine.name} {self.key}"

    def load(self, device: str, threads: int, streams: int = 1) -> Sequence[Predictor]:
        """Predictors that can run at once.

        Raises:
            EngineError: the file is of another machine or version, does not compute here what its
                ONNX says, or the engine runs one image at a time.
        """
        engine = self.engine
        try:
            found = engine.load_streams(self.file, self.precision, device, threads, streams)
        except EngineError as error:
            named = "" if str(error).startswith(str(self.file)) else f"{self.file}: "
            raise EngineError(f"{named}{error}") from None
        if self.gate is not None:
            self.gate.check(engine, self.key, found, engine.own_ranges(self.precision))
        return found


def results_of(config: RunConfig, engine: str = AUTO) -> list[StageResult]:
    """Results of the engines of a run, the engine of that name alone if one is named.

    Raises:
        RunError: the run has none of them, or one is damaged; names the command that builds it.
    """
    names = ENGINES if engine == AUTO else (engine,)
    files = [config.folder / f"{RESULT}{name}.json" for name in names]
    found = [result for file in files if (result := read_result(file)) is not None]
    if not found:
        what = "engine" if engine == AUTO else f"{engine} engine"
        raise RunError(
            f"{config.folder}: holds no {what}{_others(config)}; "
            f"{command(config, 'engine', engine=engine)} builds it"
        )
    return found


def _others(config: RunConfig) -> str:
    """Runs that have engines, where this one has none."""
    folders = sorted({file.parent for file in Path(config.project).glob("*/engine-*.json")})
    names = [folder.name for folder in folders if folder != config.folder]
    return f" (runs that do: {', '.join(names)})" if names else ""


def engines_of(config: RunConfig, result: StageResult, device: str) -> list[BuiltEngine]:
    """What an engine's result says was built; warns of what may make it another than that.

    Raises:
        RunError: a file is missing or is not the one that was built.
        EngineError: the engine's package is missing, or it does not run on the device.
    """
    engine, remedy = get_engine(name_of(result), device), again(config, result)
    if damaged := result.damaged(config.folder):
        raise RunError(f"{config.folder / damaged[0]}: is missing or was changed; {remedy}")
    for text in doubts(config, result, engine):
        warn(f"{engine.name}: {text}; {remedy}")
    gate = StoredGate.of(config.folder, result, remedy) if elsewhere(result, engine) else None
    titles = {row.precision: row.name for row in reversed(result.rows)}
    return [
        BuiltEngine(engine, key, title, config.folder / result.artifacts[key], gate)
        for key, title in reversed(titles.items())
        if key in result.artifacts
    ]


def name_of(result: StageResult) -> str:
    """The engine of a result."""
    return result.stage.removeprefix(RESULT)


def again(config: RunConfig, result: StageResult) -> str:
    """The command that builds an engine anew."""
    return command(same_run(config, result.config), "engine", "--force", name_of(result))


def elsewhere(result: StageResult, engine: Engine) -> bool:
    """Whether an engine was gated on another CPU, or with other versions, than those here."""
    return bool(_changes(result, engine))


def _changes(result: StageResult, engine: Engine) -> list[str]:
    """What of the machine is not as it was when an engine was built."""
    was, texts = result.environment, []
    if (was.get("cpu"), was.get("isa")) != (cpu_model(), isa_flags()):
        texts.append(f"its files were built and gated on another machine ({was.get('cpu')})")
    now = versions(engine.packages)
    before = was.get("versions", {})
    other = [name for name in engine.packages if before.get(name) != now[name]]
    if other:
        each = ", ".join(f"{name} {before.get(name)}, here {now[name]}" for name in other)
        texts.append(f"its files were built and gated with {each}")
    return texts


def doubts(config: RunConfig, result: StageResult, engine: Engine) -> list[str]:
    """Why an engine may find other boxes, or take another time, than its result says."""
    texts = _changes(result, engine)
    if not result.notes.get("gate"):
        texts.append("no gate has held its boxes against its ONNX")
    made = read_result(config.folder / f"{result.notes.get('quantized', 'ptq')}.json")
    if made is not None and made.key != result.notes.get("quantized_key", made.key):
        texts.append(f"its int8 is of an earlier {made.stage}.json than the one of the run")
    return texts


def choose(engines: Sequence[BuiltEngine], precision: str) -> BuiltEngine:
    """The engine of a precision; `auto` is int8 where there is one, else the first.

    Raises:
        EngineError: none has it; names those that there are.
    """
    wanted = [each for each in engines if each.key == precision]
    if precision == AUTO:
        wanted = [each for each in engines if each.precision.startswith("int8")] or list(engines)
    if not wanted:
        known = ", ".join(map(str, engines))
        raise EngineError(f"--precision {precision}: the run has {known}; choose from these")
    return wanted[0]


def result_with(results: Sequence[StageResult], precision: str) -> StageResult:
    """The first engine's result that has a precision.

    Raises:
        EngineError: none has; names what there is.
    """
    for result in results:
        if precision in (AUTO, *(row.precision for row in result.rows)):
            return result
    known = dict.fromkeys(f"{row.engine} {row.precision}" for r in results for row in r.rows)
    raise EngineError(f"--precision {precision}: the run has {', '.join(known)}; choose from these")
