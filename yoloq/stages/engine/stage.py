"""Engines: build every precision of one, hold each against the baseline, time them in turn."""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from yoloq.base.config import StageConfig, option, require
from yoloq.base.errors import EngineError, RunError, UserError
from yoloq.base.machine import affinity, environment, has_vnni, isa_flags
from yoloq.base.result import StageResult
from yoloq.engines import ENGINES, get_engine
from yoloq.engines.base import BuildOptions, Calibration, Engine, ModelInfo, Predictor, Source
from yoloq.quant.hand_set import parse_amax
from yoloq.quant.quantized import load_quantized
from yoloq.stages.baseline.stage import BaselineConfig
from yoloq.stages.baseline.stage import run as run_baseline
from yoloq.stages.engine import build as building
from yoloq.stages.engine import gate, layers
from yoloq.stages.engine import rows as measuring
from yoloq.stages.engine.build import IMPLICIT, Variant
from yoloq.stages.ptq.stage import PtqConfig
from yoloq.stages.ptq.stage import run as run_ptq
from yoloq.stages.qat.stage import QatConfig
from yoloq.stages.qat.stage import run as run_qat
from yoloq.stages.run import Inputs, earlier, existing, finished, open_inputs, say

CHOICES = ("auto", "ptq", "qat", "both")
LARGEST = 1 << 20  # GiB; the bytes of more, or of inf, are no number that a library takes
_BUILD = BuildOptions()

T = TypeVar("T")


@dataclass(frozen=True)
class EngineConfig(StageConfig):
    """Build engines in every precision of the machine; measure accuracy and speed."""

    engine: str = option("auto", "engine to build", ("auto", *ENGINES))
    precisions: tuple[str, ...] = option((), "precisions to build; none: all that run natively")
    threads: int = option(0, "threads of the engine; 0: as many as cores")
    runs: int = option(50, "timed runs of each precision, in turn")
    of: str = option("auto", "int8 model; auto: qat where it beat ptq; both: a row each", CHOICES)
    gate: int = option(8, "val images on which each engine is held against its ONNX; 0: none")
    batch: int = option(_BUILD.batch, "images at once, in the engine and when it is timed")
    max_batch: int = option(
        _BUILD.max_batch, "take 1 to N images, fastest at --batch; timed at both"
    )
    workspace: float = option(_BUILD.workspace, "GiB of scratch memory; 0: all that there is")
    tf32: bool = option(_BUILD.tf32, "let FP32 convolutions round their inputs to TF32")
    level: int = option(_BUILD.level, "how long to search for fast kernels, 0 to 5")
    calibrator: str = option(
        "", f"of {IMPLICIT}, the engine's own; none: {_BUILD.calibrator}", ("entropy", "minmax")
    )
    fp16_layers: tuple[str, ...] = option((), f"patterns of what {IMPLICIT} keeps in FP16")
    ranges: tuple[str, ...] = option((), f"ranges for {IMPLICIT}: model.8.cv1=4.2 is +-4.2")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.threads >= 0, "--threads", self.threads, "0 (all cores) or more")
        require(self.runs >= 1, "--runs", self.runs, "1 or more")
        require(self.gate >= 0, "--gate", self.gate, "0 (none) or more")
        require(self.batch >= 1, "--batch", self.batch, "1 or more")
        most = self.max_batch
        require(most == 0 or most >= self.batch, "--max-batch", most, "0, or --batch or more")
        want = f"0 (all there is) to {LARGEST} GiB"
        require(0 <= self.workspace <= LARGEST, "--workspace", self.workspace, want)
        require(0 <= self.level <= 5, "--level", self.level, "0 to 5")
        parse_amax(self.ranges, "--ranges")

    @property
    def cores(self) -> int:
        """Threads of the engine."""
        return self.threads or len(affinity())


def run(config: EngineConfig) -> StageResult:
    """Write the Q/DQ ONNX, the engine's files and `engine-<engine>.json`.

    Raises:
        UserError: the engine's package or the device is missing, an input cannot be used, or an
            engine does not compute what its ONNX says.
    """
    began = time.perf_counter()
    engine = get_engine(config.engine, config.device)
    options = building.build_options(engine, config)
    precisions = chosen_precisions(engine, config)
    inputs = open_inputs(config)
    building.check_names(engine, options, inputs.model.net)
    ptq = earlier(inputs, "ptq", run_ptq, PtqConfig, engine=engine.name)
    baseline = earlier(inputs, "baseline", run_baseline, BaselineConfig)
    models = chosen_models(inputs, ptq, config.of)
    stage = f"engine-{engine.name}"
    key = result_key(inputs, stage, models, precisions)
    done = finished(config.folder, stage, key, config.force)
    if done is not None:
        return done
    inputs = inputs.without([Path(name) for name in baseline.notes["skipped"]])
    calibration = building.calibration(inputs, ptq) if IMPLICIT in precisions else None
    sources = open_sources(inputs, options, models, calibration)
    warn_without_vnni(engine)
    variants = building.make_variants(precisions, sources)
    int8 = building.exportable(engine, sources, precisions)
    onnx = building.write_onnx(sources, int8, config.folder)
    files = onnx | building.lint_graphs(engine, variants, config.folder)
    predictors, built, gated = checked_engines(inputs, engine, variants, onnx)
    files |= building.artifact_names(built)
    told = (engine, variants, predictors, config.folder)
    files |= or_warn("list of layers", layers.write_layers, *told) or {}
    rows = measuring.at_batch(inputs, config, engine, variants, predictors, built)
    gate.warn_if_off(rows, expected_map(variants, baseline, models))
    timed = (inputs, config, rows, predictors)
    larger = or_warn("rows of --max-batch", measuring.at_max_batch, *timed) or []
    newest = models[-1]
    result = inputs.result(
        stage,
        key,
        rows + larger,
        artifacts=files,
        seconds={"total": time.perf_counter() - began},
        notes={
            "quantized": newest.stage,
            "quantized_key": newest.key,
            "policy": sources[newest.stage].quantized.policy.to_json(),
            "gate": gated,
        },
    )
    result.write(config.folder / f"{stage}.json")
    compared = (engine, variants, built, rows, config.device, config.cores)
    or_warn("comparison of layers", layers.warn_if_slow, *compared)
    return result


def result_key(
    inputs: Inputs, stage: str, models: Sequence[StageResult], precisions: Sequence[str]
) -> str:
    """Hash of all that the stage's result depends on, the GPU included."""
    gpu = environment(inputs.config.device)["gpu"]
    quantized = {made.stage: made.key for made in models}
    return inputs.key(stage, quantized=quantized, precisions=precisions, gpu=gpu)


def checked_engines(
    inputs: Inputs, engine: Engine, variants: Sequence[Variant], onnx: Mapping[str, str]
) -> tuple[dict[str, Predictor], dict[str, Path], dict[str, Any]]:
    """Predictors and files by key, and what the gate measured.

    They are built apart: what the gate refuses never stands under a name that others read.

    Args:
        onnx: file names as `write_onnx` gave them.

    Raises:
        EngineError: one does not compute what its ONNX says.
    """
    config = inputs.config
    assert isinstance(config, EngineConfig)
    with tempfile.TemporaryDirectory(dir=config.folder) as apart:
        predictors, files = building.build(
            engine, variants, Path(apart), config.device, config.cores
        )
        found = gate.check_all(inputs, engine.name, predictors, onnx, config.gate, config.cores)
        return predictors, building.publish(files, config.folder), found


def or_warn(what: str, report: Callable[..., T], *arguments: Any) -> T | None:
    """What a report gives; a warning and None where it fails.

    No report is worth the engines and figures that it is about.
    """
    try:
        return report(*arguments)
    except Exception as error:  # it reads what libraries write, in whatever form
        named = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        say(f"warning: no {what}: {named}{' '.join(str(error).split())}")
        return None


def open_sources(
    inputs: Inputs,
    options: BuildOptions,
    models: Sequence[StageResult],
    calibration: Calibration | None = None,
) -> dict[str, Source]:
    """What to build from, by the stage that made the int8 model."""
    info = ModelInfo(inputs.model.head, inputs.model.names, inputs.imgsz)
    folder, device = inputs.config.folder, inputs.config.device
    opened = {made.stage: load_quantized(folder / made.artifacts["model"]) for made in models}
    return {
        stage: Source(info, inputs.model, quantized, options, calibration, device, folder)
        for stage, quantized in opened.items()
    }


def expected_map(
    variants: Sequence[Variant], baseline: StageResult, models: Sequence[StageResult]
) -> dict[str, float]:
    """AP50-95 by key of the same model in PyTorch; none of what an engine calibrates itself."""
    simulated = iter(made.rows[0].map50_95 for made in models)
    expected = {}
    for variant in variants:
        if variant.precision != IMPLICIT:
            int8 = variant.precision == "int8"
            expected[variant.key] = next(simulated) if int8 else baseline.rows[0].map50_95
    return expected


def chosen_models(inputs: Inputs, ptq: StageResult, of: str) -> list[StageResult]:
    """The stages whose int8 models are built, PTQ first.

    Raises:
        RunError: QAT's is asked for, and that started from another calibration.
    """
    if of == "both":
        return [ptq, tuned(inputs, ptq, of)]
    return [chosen_model(inputs, ptq, of)]


def tuned(inputs: Inputs, ptq: StageResult, of: str) -> StageResult:
    """The result of QAT, which runs first where there is none.

    Raises:
        RunError: it started from another calibration.
    """
    qat = earlier(inputs, "qat", run_qat, QatConfig)
    if qat.notes["quantized_key"] != ptq.key:
        raise RunError(
            f"--of {of}: {inputs.config.folder / 'qat.json'} started from another calibration "
            "than ptq.json; run `make qat` again"
        )
    return qat


def chosen_model(inputs: Inputs, ptq: StageResult, of: str) -> StageResult:
    """The stage whose int8 model is built: QAT's where it has more fidelity than PTQ's, or `of`.

    Raises:
        RunError: `of` is "qat", and that started from another calibration.
    """
    if of == "ptq":
        return ptq
    if of == "qat":
        return tuned(inputs, ptq, of)
    found = existing(inputs, "qat")
    if found is None or found.notes["quantized_key"] != ptq.key:
        return ptq
    gained = found.rows[0].fidelity > ptq.rows[0].fidelity
    chosen = found if gained else ptq
    sign = ">" if gained else "<="
    say(
        f"int8 of {chosen.stage}: fidelity {found.rows[0].fidelity:.4f} (QAT) {sign} "
        f"{ptq.rows[0].fidelity:.4f} (PTQ); --of chooses"
    )
    return chosen


def chosen_precisions(engine: Engine, config: EngineConfig) -> tuple[str, ...]:
    """Those asked for, or all.

    Raises:
        EngineError: the engine does not run one of them on this device.
    """
    native = engine.precisions(config.device)
    for precision in config.precisions:
        if precision not in native:
            raise EngineError(
                f"--precisions {precision}: {engine.name} runs {', '.join(native)} here"
            )
    return tuple(name for name in native if not config.precisions or name in config.precisions)


def warn_without_vnni(engine: Engine) -> None:
    """Without VNNI an int8 product pair can saturate int16, and int8 is seldom faster."""
    on_cpu = "cpu" in engine.devices and not engine.simulated
    if on_cpu and isa_flags() and not has_vnni():
        say(
            "warning: this CPU has no VNNI: int8 may be no faster than FP32, and sums of u8 x s8 "
            "products can saturate; ARGS='--weight-bits 7' of make ptq avoids that"
        )
