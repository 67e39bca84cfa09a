"""The whole flow on the built-in set, with caps that keep it to minutes on a laptop."""

import time
from dataclasses import dataclass
from typing import Any

from yoloq.base.config import StageConfig, option
from yoloq.stages.baseline import stage as baseline
from yoloq.stages.engine import stage as engine
from yoloq.stages.ptq import stage as ptq
from yoloq.stages.report import stage as report
from yoloq.stages.run import as_config, say

ENGINES = ("openvino", "onnxruntime")


@dataclass(frozen=True)
class DemoConfig(StageConfig):
    """Run every stage on the built-in set and weights."""

    name: str = option("demo", "run folder")
    limit: int = option(300, "evaluate on the first N images of val; 0: all")
    images: int = option(128, "calibration images, drawn from train")
    runs: int = option(30, "timed runs of each precision, in turn")


def run(config: DemoConfig) -> list[dict[str, Any]]:
    """Baseline, PTQ, the CPU engines and the report, in one run folder; returns the table."""
    began = time.perf_counter()
    say(
        f"demo: at most {config.limit or 'all'} val images, {config.images} calibration images, "
        f"{config.runs} timed runs; in {config.folder}"
    )
    baseline.run(as_config(config, baseline.BaselineConfig))
    ptq.run(as_config(config, ptq.PtqConfig, engine=ENGINES[0]))  # both run its placement
    for name in ENGINES:
        engine.run(as_config(config, engine.EngineConfig, engine=name))
    table = report.run(as_config(config, report.ReportConfig, runs=()))
    say(f"demo: {time.perf_counter() - began:.0f} s")
    return table
