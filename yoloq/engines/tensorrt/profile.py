"""Time of every layer of a TensorRT engine, under the names of the ONNX nodes fused into it."""

from pathlib import Path
from statistics import median

from yoloq.base.errors import EngineError
from yoloq.base.say import warn
from yoloq.engines.base import NodeTime
from yoloq.engines.predictor import any_image
from yoloq.engines.tensorrt.inspector import LayerInfo, named
from yoloq.engines.tensorrt.library import Library
from yoloq.engines.tensorrt.runtime import TensorRtPredictor, open_engine


def profile(library: Library, file: Path, device: str, runs: int) -> list[NodeTime]:
    """Median times from the library's profiler, types and sources from its list of layers.

    The profiler puts an event behind every layer, so the sum is more than a run takes.
    """
    predictor = open_engine(library, file, device)
    images = any_image(predictor.model.imgsz).repeat(predictor.batch, 0)
    times = predictor.layer_times(images, runs)
    layers = {layer.name: layer for layer in _told(predictor)}
    return [
        node_time(layers.get(name) or named(name), median(each)) for name, each in times.items()
    ]


def _told(predictor: TensorRtPredictor) -> list[LayerInfo]:
    """The engine's layers; none, and a warning, where what TensorRT tells cannot be read."""
    try:
        return predictor.layers()
    except EngineError as error:
        warn(f"layers are known by name alone: {error}; ARGS=--force builds the engine anew")
        return []


def node_time(layer: LayerInfo, ms: float) -> NodeTime:
    """A layer as the engines' common profile has it; every convolution has one kind."""
    kind = "Convolution" if layer.is_convolution else layer.kind
    return NodeTime(kind, layer.precision, layer.nodes or (layer.name,), ms)
