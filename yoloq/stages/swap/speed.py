"""What the swap is worth: FP32 and INT8 engines of both networks, measured and timed in turn."""

from collections.abc import Sequence
from dataclasses import replace

from yoloq.base.files import temporary_folder
from yoloq.base.result import Row
from yoloq.engines.base import Engine
from yoloq.engines.source import Source
from yoloq.stages.engine import EngineConfig, build, rows
from yoloq.stages.engine.build import EngineVariant
from yoloq.stages.ptq import PtqConfig
from yoloq.stages.ptq.apart import calibrated_apart
from yoloq.stages.run import Inputs, as_config
from yoloq.stages.swap import SwapConfig

PRECISIONS = ("fp32", "int8")


def make_source(inputs: Inputs, config: SwapConfig, engine: Engine) -> Source:
    """What an engine is built from: the inputs' model and its int8 with the default placement."""
    ptq = as_config(config, PtqConfig, engine=engine.name)
    made, _ = calibrated_apart(inputs, ptq)
    return Source(inputs.info, inputs.model, made, device=config.device, caches=config.folder)


def engine_rows(before: Inputs, after: Inputs, config: SwapConfig, engine: Engine) -> list[Row]:
    """Rows of the engines of the original and of the trained network, timed in turn.

    Args:
        before, after: the stage's inputs with the one and the other model.
    """
    variants = []
    for name, inputs in {"original": before, "swapped": after}.items():
        source = make_source(inputs, config, engine)
        variants += [
            EngineVariant(f"{each}-{name}", each, source, f"{each.upper()} {name}")
            for each in PRECISIONS
        ]
    settings = as_config(config, EngineConfig, engine=engine.name)
    graphs = {each.key: engine.graph(each.source, each.precision) for each in variants}
    with temporary_folder(config.folder, "engines") as folder:
        made = build.build(engine, graphs, folder, config.device, settings.cores)
        found, _ = rows.at_batch(before, settings, engine, variants, *made)
    pairs = zip(found, variants, strict=True)
    return [replace(row, precision=each.precision) for row, each in pairs]


def ratio(found: Sequence[Row], precision: str) -> float | None:
    """Median time of the swapped engine over that of the original; None where it claims none."""
    times = [row.latency_ms["p50"] for row in found if row.precision == precision if row.latency_ms]
    if not times:
        return None
    original, swapped = times
    return float(swapped / original)
