"""Engines: build every precision of one, hold each against the baseline, time them in turn."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from yoloq.base.errors import RunError, UserError
from yoloq.base.files import temporary_folder
from yoloq.base.machine import has_vnni, isa_flags
from yoloq.base.own_files import MAKE
from yoloq.base.result import Row, StageResult
from yoloq.base.say import say, warn
from yoloq.engines import get_engine
from yoloq.engines.base import Engine
from yoloq.engines.options import DYNAMIC, BuildOptions
from yoloq.engines.predictor import Predictor
from yoloq.engines.source import Calibration, Exports, Graph, Source
from yoloq.engines.torch import predictor_of
from yoloq.measure.record import Record
from yoloq.quant.quantized import load_quantized
from yoloq.stages.baseline import BaselineConfig
from yoloq.stages.baseline.stage import run as run_baseline
from yoloq.stages.end import on_run
from yoloq.stages.engine import EngineConfig, build, gate, layers, rows
from yoloq.stages.engine.build import EngineVariant
from yoloq.stages.engine.few_bits import FewBits, write_few_bits
from yoloq.stages.engine.layer_notes import layer_notes
from yoloq.stages.engine.stored_gate import save_images
from yoloq.stages.ptq import PtqConfig
from yoloq.stages.ptq.stage import run as run_ptq
from yoloq.stages.qat import QatConfig
from yoloq.stages.qat.stage import run as run_qat
from yoloq.stages.row import save_records
from yoloq.stages.run import Inputs, earlier, existing, finished, open_inputs

T = TypeVar("T")


def run(config: EngineConfig) -> StageResult:
    """Write the Q/DQ ONNX, the engine's files and `engine-<engine>.json`.

    Raises:
        UserError: the engine's package or the device is missing, an input cannot be used, or an
            engine does not compute what its ONNX says.
    """
    began = time.perf_counter()
    engine = get_engine(config.engine, config.device, run=False)
    options = build.build_options(engine, config)
    why_not = engine.cannot_run(config.device, options)
    precisions = chosen_precisions(engine, config)
    engine.check_streams(config.streams)
    inputs = open_inputs(config)
    build.check_names(engine, options, inputs.ops)
    ptq = earlier(inputs, "ptq", run_ptq, PtqConfig, engine=engine.name)
    baseline = earlier(inputs, "baseline", run_baseline, BaselineConfig)
    models = chosen_models(inputs, ptq, config.of)
    stage = f"engine-{engine.name}"
    key = result_key(inputs, stage, models, precisions)
    done = finished(config.folder, stage, key, config.force)
    if done is not None:
        return done
    inputs = inputs.without([Path(name) for name in baseline.notes["skipped"]])
    own = any(engine.calibrates(precision) for precision in precisions)
    calibration = build.calibration(inputs, ptq) if own else None
    sources = open_sources(inputs, options, models, calibration)
    warn_without_vnni(engine)
    variants = build.make_variants(precisions, sources)
    int8 = build.exportable(engine, sources, precisions)
    onnx = build.write_onnx(sources, int8, config.folder)
    graphs = {each.key: engine.graph(each.source, each.precision) for each in variants}
    files = onnx | build.lint_graphs(engine, variants, graphs, config.folder)
    predictors, built, gated = checked_engines(inputs, engine, graphs, onnx, why_not)
    files |= save_images(inputs, stage, config.gate) if gated else {}
    del graphs  # as large as the models
    few = or_warn("packed weights", write_few_bits, inputs, sources, onnx, config.cores)
    few = few or FewBits()
    files |= build.artifact_names(built) | few.files
    told = (engine, variants, predictors, config.folder)
    files |= or_warn("list of layers", layers.write_layers, *told) or {}
    ran = (engine, variants, predictors, built)
    formed = or_warn("count of int8 convolutions", layers.count_int8, *ran) or {}
    if why_not:
        taken = Taken(rows.not_measured(*ran), notes={"remarks": [why_not]})
    else:
        taken = take(inputs, config, ran, expected_map(engine, variants, baseline, models))
    files |= save_records(inputs, stage, taken.records)
    result = inputs.result(
        stage,
        key,
        taken.rows + taken.larger,
        artifacts=files,
        seconds={"total": time.perf_counter() - began},
        notes=what_was_built(models[-1], sources)
        | {"gate": gated, "int8": formed, "packed": few.sizes}
        | taken.notes,
    )
    result.write(config.folder / f"{stage}.json")
    return result


Ran = tuple[Engine, Sequence[EngineVariant], Mapping[str, Predictor], Mapping[str, Path]]


@dataclass(frozen=True)
class Taken:
    """What was found of the engines: rows, those at `--max-batch`, notes, and records by key."""

    rows: list[Row]
    larger: list[Row] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)
    records: dict[str, Record] = field(default_factory=dict)


def take(inputs: Inputs, config: EngineConfig, ran: Ran, expected: Mapping[str, float]) -> Taken:
    """Measure engines that run here.

    Args:
        expected: AP50-95 by precision, as PyTorch has it.
    """
    engine, variants, predictors, built = ran
    measured, records = rows.at_batch(inputs, config, *ran)
    gate.warn_if_off(measured, expected)
    timed = (inputs, config, measured, predictors)
    larger = or_warn("rows of --max-batch", rows.at_max_batch, *timed) or []
    ruled = (engine, variants, predictors, measured)
    floors = or_warn("least times", layers.over_floor, *ruled) or {}
    profiles = layers.Profiles(engine, built, config)
    noted = or_warn("times of layers", layer_notes, engine, variants, predictors, profiles) or {}
    compared = (engine, variants, measured, profiles)
    slow = or_warn("comparison of layers", layers.slow_int8, *compared) or {}
    return Taken(measured, larger, {"floors": floors, "layers": noted, "slow": slow}, records)


def next_step(config: EngineConfig, found: StageResult) -> str:
    """Put all that was measured into one table."""
    return on_run(config, "report")


def what_was_built(newest: StageResult, sources: Mapping[str, Source]) -> dict[str, Any]:
    """Notes on the quantized model that the engine is of."""
    return {
        "quantized": newest.stage,
        "quantized_key": newest.key,
        "policy": sources[newest.stage].quantized.policy.to_json(),
    }


def result_key(
    inputs: Inputs, stage: str, models: Sequence[StageResult], precisions: Sequence[str]
) -> str:
    """Hash of all that the stage's result depends on, the machine included."""
    quantized = {made.stage: made.key for made in models}
    return inputs.key(stage, timed=True, quantized=quantized, precisions=precisions)


def checked_engines(
    inputs: Inputs,
    engine: Engine,
    graphs: Mapping[str, Graph],
    onnx: Mapping[str, str],
    why_not: str = "",
) -> tuple[dict[str, Predictor], dict[str, Path], dict[str, Any]]:
    """Predictors and files by key, and what the gate measured.

    They are built apart: what the gate refuses never stands under a name that others read.

    Args:
        graphs: by key.
        onnx: file names as `write_onnx` gave them.
        why_not: the engine cannot run here: nothing is measured.

    Raises:
        EngineError: one does not compute what its ONNX says.
    """
    config = inputs.config
    assert isinstance(config, EngineConfig)
    with temporary_folder(config.folder, "engines") as apart:
        how = (apart, config.device, config.cores, why_not)
        predictors, files = build.build(engine, graphs, *how)
        if why_not:
            warn(f"{engine.name}: {why_not}: what was built is not measured here")
            return predictors, build.publish(files, config.folder), {}
        own = [key for key, graph in graphs.items() if engine.own_ranges(graph.precision)]
        held = (onnx, config.gate, config.cores, own, simulations(engine, graphs, onnx))
        found = gate.check_all(inputs, engine.name, predictors, *held)
        return predictors, build.publish(files, config.folder), found


def simulations(
    engine: Engine, graphs: Mapping[str, Graph], onnx: Mapping[str, str]
) -> dict[str, Predictor]:
    """What PyTorch simulates of int8 models that an engine runs and ONNX cannot hold."""
    sources = {f"onnx-{key}": g.source for key, g in graphs.items() if g.precision == "int8"}
    return {
        key: predictor_of(source.quantized, source.info.imgsz, "cpu")
        for key, source in sources.items()
        if key not in onnx and not engine.simulated
    }


def or_warn(what: str, report: Callable[..., T], *arguments: Any) -> T | None:
    """What a report gives; a warning and None where it fails.

    No report is worth the engines and figures that it is about.
    """
    try:
        return report(*arguments)
    except Exception as error:  # it reads what libraries write, in whatever form
        named = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        reason = f"{named}{' '.join(str(error).split())}"
        warn(f"no {what}: {reason}; the rest of the result stands, --force tries again")
        return None


def open_sources(
    inputs: Inputs,
    options: BuildOptions,
    models: Sequence[StageResult],
    calibration: Calibration | None = None,
) -> dict[str, Source]:
    """What to build from, by the stage that made the int8 model."""
    folder, device, exports = inputs.config.folder, inputs.config.device, Exports()
    rest = (options, calibration, device, folder, exports)
    files = {made.stage: folder / made.artifacts["model"] for made in models}
    return {
        stage: Source(inputs.info, inputs.model, load_quantized(file, inputs.ops), *rest)
        for stage, file in files.items()
    }


def expected_map(
    engine: Engine,
    variants: Sequence[EngineVariant],
    baseline: StageResult,
    models: Sequence[StageResult],
) -> dict[str, float]:
    """AP50-95 by key of the same model in PyTorch; none where ranges are others."""
    simulated = iter(made.rows[0].ap for made in models)
    expected = {}
    for variant in variants:
        if not engine.own_ranges(variant.precision):
            int8 = variant.precision == "int8"
            expected[variant.key] = next(simulated) if int8 else baseline.rows[0].ap
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
            f"than ptq.json; run `{MAKE} qat` again"
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
    """Those asked for, or all; `--dynamic` asks for one more.

    Raises:
        EngineError: the engine does not run one of them on this device.
    """
    for precision in config.precisions:
        engine.check_precision(precision, config.device)
    native = engine.precisions(config.device)
    chosen = [name for name in native if not config.precisions or name in config.precisions]
    return (*chosen, DYNAMIC) if config.dynamic else tuple(chosen)


def warn_without_vnni(engine: Engine) -> None:
    """Without VNNI an int8 product pair can saturate int16, and int8 is seldom faster."""
    on_cpu = "cpu" in engine.devices and not engine.simulated
    if on_cpu and isa_flags() and not has_vnni():
        warn(
            "this CPU has no VNNI: int8 may be no faster than FP32, and sums of u8 x s8 "
            f"products can saturate; ARGS='--weight-bits 7' of {MAKE} ptq avoids that"
        )
