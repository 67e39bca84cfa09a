"""The whole flow on the built-in set, with caps that keep it to minutes on a laptop."""

import time
from typing import Any

from yoloq.base.say import say
from yoloq.data.dataset import read_dataset
from yoloq.stages.baseline import BaselineConfig
from yoloq.stages.baseline import stage as baseline
from yoloq.stages.demo import DemoConfig
from yoloq.stages.end import on_run
from yoloq.stages.engine import EngineConfig
from yoloq.stages.engine import stage as engine
from yoloq.stages.ptq import PtqConfig
from yoloq.stages.ptq import stage as ptq
from yoloq.stages.report import ReportConfig
from yoloq.stages.report import stage as report
from yoloq.stages.run import as_config

ENGINES = ("openvino", "onnxruntime")


def run(config: DemoConfig) -> list[dict[str, Any]]:
    """Baseline, PTQ, the CPU engines and the report, in one run folder; returns the table."""
    began = time.perf_counter()
    say(
        f"demo: at most {config.limit or 'all'} val images, {config.images} calibration images, "
        f"{config.runs} timed runs; in {config.folder}"
    )
    baseline.run(as_config(config, BaselineConfig))
    ptq.run(as_config(config, PtqConfig, engine=ENGINES[0]))  # both run its placement
    for name in ENGINES:
        engine.run(as_config(config, EngineConfig, engine=name))
    table = report.run(as_config(config, ReportConfig, runs=()))
    say(f"demo: {time.perf_counter() - began:.0f} s")
    return table


def next_step(config: DemoConfig, found: Any) -> str:
    """Look at what an engine finds on the first images."""
    images = read_dataset(config.data).images("val")
    return on_run(config, "predict", str(images[0].parent))
