"""What the tests on a real GPU build engines from."""

from tiny_quant import SIZE, pictures, tiny_model, tiny_quantized

from yoloq.engines.options import BuildOptions
from yoloq.engines.predictor import ModelInfo
from yoloq.engines.source import Calibration, Source


def source(family: str = "yolov5", **options) -> Source:
    """A tiny model with TensorRT's placement, and pictures to calibrate on."""
    model = tiny_model(family)
    info = ModelInfo(model.head, model.names, SIZE)
    quantized = tiny_quantized(family, sharing="concat", residual="input")
    calibration = Calibration("pictures", 8, lambda: iter([pictures(8)]))
    return Source(info, model, quantized, BuildOptions(**options), calibration)
