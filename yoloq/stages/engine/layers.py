"""After a build: what an engine's layers run in, and what makes int8 slower than it should be."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from yoloq.base.files import write_text
from yoloq.base.own_files import MAKE
from yoloq.base.result import Row
from yoloq.base.say import say, warn
from yoloq.engines.base import Engine
from yoloq.engines.options import DYNAMIC, PLACED
from yoloq.engines.predictor import Predictor
from yoloq.engines.tensorrt.inspector import LayerInfo, layer_report
from yoloq.measure.layer_times import LayerTimes, float_precisions, layer_times, tensor_readers
from yoloq.measure.limits import floor_ms, machine_limits, work_of
from yoloq.quant.policy import matches
from yoloq.stages.engine import EngineConfig
from yoloq.stages.engine.build import EngineVariant

PROFILED = 20  # runs of each engine, where int8 turned out slow
NAMED = 5  # layers that a warning names


@runtime_checkable
class Inspected(Protocol):
    """A predictor that can say what its engine consists of."""

    def layers(self) -> list[LayerInfo]: ...


def write_layers(
    engine: Engine,
    variants: Sequence[EngineVariant],
    predictors: Mapping[str, Predictor],
    folder: Path,
) -> dict[str, str]:
    """Write `<engine>-<key>-layers.json` where an engine tells its layers, and say what counts.

    Returns:
        File names by key, `layers-int8` for example.
    """
    names = {}
    for variant in variants:
        predictor = predictors[variant.key]
        if isinstance(predictor, Inspected):
            layers = predictor.layers()
            placement = variant.source.quantized.placement
            report = layer_report(layers, placement.layers, expected_int8(engine, variant))
            file = folder / f"{engine.name}-{variant.key}-layers.json"
            write_text(file, json.dumps(report.to_json(layers), indent=1) + "\n")
            names[f"layers-{variant.key}"] = file.name
            say(f"{engine.name} {variant.key}: {report.summary()}")
    return names


def count_int8(
    engine: Engine,
    variants: Sequence[EngineVariant],
    predictors: Mapping[str, Predictor],
    files: Mapping[str, Path],
) -> dict[str, dict[str, Any]]:
    """Say how many of the convolutions that were to run in int8 do so, and which do not.

    Returns:
        By key the counts `planned` and `formed`, and the names `not_int8`, which has none that the
        engine does not name; nothing of an engine that cannot know.
    """
    counts = {}
    for variant in variants:
        planned = expected_int8(engine, variant)
        if not planned or engine.types is None:
            continue
        layers = variant.source.quantized.placement.layers
        found = engine.types(predictors[variant.key], files[variant.key], layers)
        formed = sum(found.get(name) == "int8" for name in planned)
        missed = [name for name in planned if found.get(name, "int8") != "int8"]
        counts[variant.key] = {"planned": len(planned), "formed": formed, "not_int8": missed}
        title = f"{engine.name} {variant.key}"
        say(f"{title}: {formed} of {len(planned)} int8 convolutions run in integers")
        if missed:
            more = ", ..." if len(missed) > NAMED else ""
            names = ", ".join(missed[:NAMED]) + more
            warn(
                f"{title}: {len(missed)} convolutions were to run in int8 and do not: {names}; "
                f"what stands in their way: {MAKE} lint-onnx ONNX=... TARGET={engine.target}"
            )
    return counts


def over_floor(
    engine: Engine,
    variants: Sequence[EngineVariant],
    predictors: Mapping[str, Predictor],
    rows: Sequence[Row],
) -> dict[str, dict[str, float]]:
    """Say how far each engine is from the least time that this machine allows.

    Returns:
        By key `floor_ms`, of the convolutions alone, and `over`, the latency over it; nothing where
        the limit is not known, as on a GPU, or no time was taken.
    """
    times = {row.precision: row.latency_ms for row in rows if row.latency_ms}
    if "cpu" not in engine.devices or engine.simulated:
        return {}
    limits, found = machine_limits(), {}
    for variant in variants:
        source, latency = variant.source, times.get(variant.key)
        kinds = dict.fromkeys(source.quantized.placement.layers, predictors[variant.key].float_type)
        kinds |= dict.fromkeys(expected_int8(engine, variant), "int8")
        work = work_of(source.model.net, source.info.imgsz)
        if latency is None or (least := floor_ms(work, kinds, limits, latency["threads"])) is None:
            continue
        least *= latency["batch"]
        found[variant.key] = {"floor_ms": least, "over": latency["p50"] / least}
    if found:
        each = ", ".join(f"{key} {item['over']:.1f}" for key, item in found.items())
        say(f"{engine.name}: measured over the least time of the convolutions here: {each}")
    return found


def expected_int8(engine: Engine, variant: EngineVariant) -> list[str]:
    """The convolutions that an engine was told to run in int8."""
    layers, options = variant.source.quantized.placement.layers, variant.source.options
    if engine.calibrates(variant.precision):
        kept = options.fp16_layers
        return [name for name in layers if not any(matches(name, pattern) for pattern in kept)]
    if variant.precision in PLACED:
        return [name for name, plan in layers.items() if plan.quantized]
    return []


@dataclass
class Profiles:
    """Times by layer of an engine's files, each profiled once, when it is asked for."""

    engine: Engine
    files: Mapping[str, Path]
    config: EngineConfig
    known: dict[str, LayerTimes] = field(default_factory=dict)

    def of(self, variant: EngineVariant, key: str = "") -> LayerTimes | None:
        """Of a variant, or of another precision of the engine; None where it has no profile."""
        if self.engine.profile is None:
            return None
        name = key or variant.key
        if name not in self.known:
            config, precision = self.config, key or variant.precision
            runs = min(config.runs, PROFILED)
            how = (self.files[name], precision, config.device, config.cores, runs)
            layers = variant.source.quantized.placement.layers
            nodes = self.engine.profile(*how)
            self.known[name] = layer_times(nodes, layers, tensor_readers(variant.source))
        return self.known[name]


def slow_int8(
    engine: Engine,
    variants: Sequence[EngineVariant],
    rows: Sequence[Row],
    profiles: Profiles,
) -> dict[str, dict[str, Any]]:
    """Where int8 is not faster than the engine's fastest float type, and which layers cost it.

    Ranges at run time cost what no placement mends: `make table` says so.

    Returns:
        By key of the slow ones what `report.remarks` puts into words: both times, and of `layers`
        the worst with the milliseconds that each loses.
    """
    times = {row.precision: row.latency_ms["p50"] for row in rows if row.latency_ms}
    floats = float_precisions(times)
    if not floats:
        return {}
    other = min(floats, key=lambda key: times[key])
    int8 = [variant for variant in variants if variant.key in times and variant.key not in floats]
    placed = [variant for variant in int8 if variant.precision != DYNAMIC]
    slow = [variant for variant in placed if times[variant.key] >= times[other]]
    found = {}
    for variant in slow:
        own, base = profiles.of(variant), profiles.of(variant, other)
        lost = dearest(own, base) if own and base else {}
        found[variant.key] = {
            "title": variant.title,
            "engine": engine.name,
            "ms": times[variant.key],
            "against": other,
            "against_ms": times[other],
            "layers": lost,
            "own_ranges": engine.calibrates(variant.precision),
        }
    return found


def dearest(int8: LayerTimes, other: LayerTimes) -> dict[str, float]:
    """The convolutions and blocks that lose most milliseconds in int8, the worst first."""
    lost = {name: ms - other.layers[name] for name, ms in int8.layers.items()}
    lost |= {name: ms - other.others.get(name, 0.0) for name, ms in int8.others.items()}
    worst = sorted((name for name in lost if lost[name] > 0), key=lambda name: -lost[name])
    return {name: lost[name] for name in worst[:NAMED]}
