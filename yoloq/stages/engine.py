"""Engines: build every precision of one, hold each against the baseline, time them in turn."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx

from ..config import StageConfig, option, require
from ..detections import Detections
from ..engines import ENGINES, get_engine
from ..engines.base import METADATA, Engine, ModelInfo, Predictor, Source, engine_files
from ..environment import affinity, has_vnni, isa_flags
from ..errors import EngineError, PolicyError, RunError
from ..export import check_exportable, export_float
from ..files import replace_when_whole
from ..lowering import lower_minimal
from ..quantized import load_quantized
from ..results import Row, StageResult
from ..timing import Latency, end_to_end, measure
from .baseline import BaselineConfig
from .baseline import run as run_baseline
from .inputs import Inputs, earlier, existing, finished, open_inputs, say
from .ptq import PtqConfig
from .ptq import run as run_ptq
from .qat import QatConfig
from .qat import run as run_qat
from .rows import BASELINE, accuracy, describe, find, timing


@dataclass(frozen=True)
class EngineConfig(StageConfig):
    """Build engines in every precision of the machine; measure accuracy and speed."""

    engine: str = option("auto", "engine to build", ("auto", *ENGINES))
    precisions: tuple[str, ...] = option((), "precisions to build; none: all that run natively")
    threads: int = option(0, "threads of the engine; 0: as many as cores")
    runs: int = option(50, "timed runs of each precision, in turn")
    of: str = option("auto", "int8 model; auto: qat where it beat ptq", ("auto", "ptq", "qat"))

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.threads >= 0, "--threads", self.threads, "0 (all cores) or more")
        require(self.runs >= 1, "--runs", self.runs, "1 or more")


def run(config: EngineConfig) -> StageResult:
    """Write the Q/DQ ONNX, the engine's files and `engine-<engine>.json`.

    Raises:
        UserError: the engine's package or the device is missing, or an input cannot be used.
    """
    began = time.perf_counter()
    engine = get_engine(config.engine)
    precisions = chosen_precisions(engine, config)
    inputs = open_inputs(config)
    ptq = earlier(inputs, "ptq", run_ptq, PtqConfig, engine=engine.name)
    baseline = earlier(inputs, "baseline", run_baseline, BaselineConfig)
    stage = f"engine-{engine.name}"
    chosen = chosen_model(inputs, ptq, config.of)
    key = inputs.key(stage, of=chosen.stage, quantized=chosen.key, precisions=precisions)
    done = finished(config.folder, stage, key, config.force)
    if done is not None:
        return done
    inputs = inputs.without([Path(name) for name in baseline.notes["skipped"]])
    source = Source(
        ModelInfo(inputs.model.head, inputs.model.names, inputs.imgsz),
        inputs.model,
        load_quantized(config.folder / chosen.artifacts["model"]),
    )
    warn_without_vnni(engine)
    artifacts = write_onnx(source, onnx_precisions(engine, source, precisions), config.folder)
    predictors, files = build(engine, source, precisions, config)
    artifacts |= artifact_names(files)
    title = f"INT8 {chosen.stage.upper()}"
    rows = measure_rows(inputs, engine, source, predictors, files, title)
    result = inputs.result(
        stage,
        key,
        rows,
        artifacts=artifacts,
        seconds={"total": time.perf_counter() - began},
        notes={
            "quantized": chosen.stage,
            "quantized_key": chosen.key,
            "policy": source.quantized.policy.to_json(),
        },
    )
    result.write(config.folder / f"{stage}.json")
    return result


def chosen_model(inputs: Inputs, ptq: StageResult, of: str) -> StageResult:
    """The stage whose int8 model is built: QAT's where it has more fidelity than PTQ's, or `of`.

    Raises:
        RunError: `of` is "qat", and that started from another calibration.
    """
    if of == "ptq":
        return ptq
    if of == "qat":
        qat = earlier(inputs, "qat", run_qat, QatConfig)
        if qat.notes["quantized_key"] != ptq.key:
            raise RunError(
                f"--of qat: {inputs.config.folder / 'qat.json'} started from another calibration "
                "than ptq.json; run `make qat` again"
            )
        return qat
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


def onnx_precisions(engine: Engine, source: Source, precisions: tuple[str, ...]) -> tuple[str, ...]:
    """What to write as ONNX: no int8 where the policy can only be simulated.

    Raises:
        PolicyError: so it is, and the engine is to run it in int8.
    """
    try:
        check_exportable(source.net("int8"))
    except PolicyError as error:
        if "int8" in precisions and not engine.simulated:
            raise
        say(f"no int8 ONNX file: {error}")
        return ("fp32",)
    return ("fp32", "int8")


def write_onnx(source: Source, precisions: tuple[str, ...], folder: Path) -> dict[str, str]:
    """The FP32 graph and the Q/DQ graph, for any other tool that reads ONNX."""
    names = {}
    for precision in precisions:
        net = source.net(precision)
        model = export_float(net, source.info.imgsz)
        if precision == "int8":
            model = lower_minimal(model, net)
        onnx.helper.set_model_props(model, {METADATA: source.info.to_json()})
        file = folder / f"model-{precision}.onnx"
        with replace_when_whole(file) as temporary:
            onnx.save(model, temporary)
        names[f"onnx-{precision}"] = file.name
    return names


def warn_without_vnni(engine: Engine) -> None:
    """Without VNNI an int8 product pair can saturate int16, and int8 is seldom faster."""
    if not engine.simulated and isa_flags() and not has_vnni():
        say(
            "warning: this CPU has no VNNI: int8 may be no faster than FP32, and sums of u8 x s8 "
            "products can saturate; ARGS='--weight-bits 7' of make ptq avoids that"
        )


def build(
    engine: Engine, source: Source, precisions: tuple[str, ...], config: EngineConfig
) -> tuple[dict[str, Predictor], dict[str, Path]]:
    """Engine files and loaded predictors, by precision."""
    threads = config.threads or len(affinity())
    predictors, files = {}, {}
    for precision in precisions:
        say(f"{engine.name} {precision}: building")
        files[precision] = engine.build(source, precision, config.folder)
        predictors[precision] = engine.load(files[precision], precision, config.device, threads)
    return predictors, files


def artifact_names(files: dict[str, Path]) -> dict[str, str]:
    """Engine file names by precision, and `fp32.bin` for weights that lie beside one."""
    names: dict[str, str] = {}
    for precision, file in files.items():
        main, *beside = engine_files(file)
        names |= {precision: main.name} | {f"{precision}{f.suffix}": f.name for f in beside}
    return names


def measure_rows(
    inputs: Inputs,
    engine: Engine,
    source: Source,
    predictors: dict[str, Predictor],
    files: dict[str, Path],
    title: str,
) -> list[Row]:
    """Accuracy of each precision, then the latency of all of them in turn.

    `title` is the name of the int8 row.
    """
    config = inputs.config
    assert isinstance(config, EngineConfig)
    baseline = Detections.load(config.folder / BASELINE)
    found = {
        name: find(inputs, predictor, title=f"detect, {engine.name} {name}")
        for name, predictor in predictors.items()
    }
    latencies = time_all(predictors, inputs, config)
    rows = []
    for name, predictor in predictors.items():
        int8 = name == "int8"
        row = Row(
            name=title if int8 else name.upper(),
            precision=name,
            engine=engine.name,
            size_bytes=sum(file.stat().st_size for file in engine_files(files[name])),
            float_type=predictor.float_type,
            float_layers=tuple(source.quantized.placement.float_layers) if int8 else None,
            simulated=int8 and engine.simulated,
            **accuracy(inputs, found[name], baseline),
            **timing(*latencies[name]),
        )
        if row.simulated:
            row = replace(row, latency_ms=None, path_ms=None, fps=None)
        say(describe(row))
        rows.append(row)
    return rows


def time_all(
    predictors: dict[str, Predictor], inputs: Inputs, config: EngineConfig
) -> dict[str, tuple[Latency, Latency]]:
    """Latency of the model alone and of the whole path, for each precision."""
    threads = config.threads or len(affinity())
    image = np.random.default_rng(config.seed).integers(
        0, 256, (1, inputs.imgsz, inputs.imgsz, 3), np.uint8
    )
    calls: dict[str, Callable[[], object]] = {
        name: lambda predictor=predictor: predictor(image)  # type: ignore[misc]
        for name, predictor in predictors.items()
    }
    alone = measure(calls, config.runs, 5, threads=threads, title="time the models in turn")
    return {
        name: (
            alone[name],
            end_to_end(
                predictor,
                inputs.images,
                runs=config.runs,
                threads=threads,
                title=f"time from file to boxes, {name}",
            ),
        )
        for name, predictor in predictors.items()
    }
