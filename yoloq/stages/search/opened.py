"""A workshop with what was done before: statistics, and the journal of an interrupted search."""

from collections.abc import Sequence
from typing import Any

from yoloq.base.journal import Journal
from yoloq.base.machine import affinity
from yoloq.engines.base import Engine
from yoloq.quant.trace import sibling_groups
from yoloq.stages.ptq import PtqConfig
from yoloq.stages.ptq.stage import calibration_images, calibration_key, statistics
from yoloq.stages.run import Inputs, as_config, machine, package_versions
from yoloq.stages.search import SearchConfig
from yoloq.stages.search.screen import Workshop


def open_workshop(
    inputs: Inputs,
    config: SearchConfig,
    engine: Engine,
    journal: str,
    lines: Sequence[type[Any]],
    calibrators: Sequence[str],
) -> Workshop:
    """What the parts of a search share.

    Args:
        journal: name of its file.
        lines: kinds of its lines.
        calibrators: those that the search uses.

    Raises:
        UserError: the calibration images cannot be used, or the journal is of something else.
    """
    ptq = as_config(config, PtqConfig, images=PtqConfig().images)
    chosen = calibration_images(inputs, ptq)
    subject = {
        "weights": inputs.model.sha256,
        "data": inputs.dataset.sha256,
        "calibration": calibration_key(inputs, ptq, chosen),
        "--engine": engine.name,
        "--imgsz": inputs.imgsz,
        "--images": [file.name for file in inputs.images],
        "--screen": config.screen,
        "--calibrators": list(calibrators),
        "repairs": [*ptq.refine, ptq.refine_images, ptq.refine_steps],
        "--seed": config.seed,
        "machine": machine(config.device) | {"threads": config.threads, "runs": config.runs},
        "package versions": package_versions(),
    }
    return Workshop(
        inputs,
        config,
        engine,
        statistics(inputs, ptq, sibling_groups(inputs.ops), chosen, calibrators),
        Journal(config.folder / journal, subject, lines, config.force),
        config.threads or len(affinity()),
        ptq,
        chosen,
    )
