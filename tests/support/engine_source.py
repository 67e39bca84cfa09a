"""What every engine on every family is tested with."""

from engine_wheels import PLACES, found
from rounding import MANY
from tiny_quant import SIZE, pictures, tiny_model, tiny_quantized

from yoloq.engines import ENGINES, engine_row
from yoloq.engines.predictor import ModelInfo
from yoloq.engines.source import Calibration, Source

IMAGES = MANY


def runs_here(name: str) -> bool:
    """Whether an engine is installed, and what it builds can be run."""
    row = engine_row(name)
    if name in PLACES:
        found(name)
    return row.is_installed and not row.cannot_run("auto")


HERE = [name for name in ENGINES if runs_here(name)]


def source(family: str, **placement) -> Source:
    model = tiny_model(family)
    info = ModelInfo(model.head, model.names, SIZE, conf=0.3, iou=0.5)
    calibration = Calibration("pictures", 8, lambda: iter([pictures(8)]))
    quantized = tiny_quantized(family, **placement)
    return Source(info, model, quantized, calibration=calibration)
