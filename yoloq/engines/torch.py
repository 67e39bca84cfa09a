"""PyTorch itself: the reference for accuracy; its int8 is simulated and claims no speed."""

import copy
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from yoloq.base.machine import has_fast_bfloat16, torch_device
from yoloq.engines.base import Defaults, Engine, Watch
from yoloq.engines.predictor import METADATA, ModelInfo
from yoloq.engines.source import Graph, Source
from yoloq.models.load import LoadedModel, load_model, save_model
from yoloq.models.to_input import to_input
from yoloq.quant.observer import observed
from yoloq.quant.quantized import QuantizedModel, load_quantized, save_quantized


def precisions(device: str) -> tuple[str, ...]:
    """FP32, the device's 16-bit type, and simulated int8."""
    if torch_device(device).type == "cuda":
        return ("fp32", "fp16", "int8")
    return ("fp32", "bf16", "int8") if has_fast_bfloat16() else ("fp32", "int8")


def build(graph: Graph, folder: Path) -> Path:
    """Write the model in yoloq's own format."""
    source, precision = graph.source, graph.precision
    file = folder / f"torch-{precision}.pt"
    extra = {METADATA: source.info.to_json(), "precision": precision}
    if precision == "int8":
        save_quantized(file, source.quantized, **extra)
    else:
        save_model(file, source.model, **extra)
    return file


class TorchPredictor:
    """A network in eager mode."""

    def __init__(
        self, net: torch.nn.Module, model: ModelInfo, device: torch.device, precision: str
    ):
        self.net = net.to(device).eval()
        self.model = model
        self.device = device
        types = {"bf16": torch.bfloat16, "fp16": torch.float16}
        self.autocast = types.get(precision)
        self.float_type = "fp32" if precision == "int8" else precision

    def __call__(self, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        with torch.inference_mode(), self._mixed():
            raws = self.net(to_input(images, self.device))
        return [raw.float().cpu().numpy() for raw in raws]

    def _mixed(self) -> torch.autocast | nullcontext[None]:
        if self.autocast is None:
            return nullcontext()
        return torch.autocast(self.device.type, self.autocast)


def predictor_of(
    model: LoadedModel | QuantizedModel, imgsz: int = 0, device: str = "auto"
) -> TorchPredictor:
    """A model as it stands; int8 is simulated.

    Args:
        imgsz: image size in pixels; 0: that of the checkpoint, else 640.

    Raises:
        UserError: the size is no multiple of the stride, or the device is not there.
    """
    quantized = isinstance(model, QuantizedModel)
    loaded = model.model if isinstance(model, QuantizedModel) else model
    where, net = torch_device(device), loaded.net
    if next(net.parameters()).device != where:
        net = copy.deepcopy(net)  # the caller's stays where it is
    return TorchPredictor(net, ModelInfo.of(loaded, imgsz), where, "int8" if quantized else "fp32")


def load(file: Path, precision: str, device: str, threads: int) -> TorchPredictor:
    """Open a file that `build` wrote."""
    torch.set_num_threads(threads)
    model = load_quantized(file).model if precision == "int8" else load_model(file)
    info = ModelInfo.from_json(model.extra[METADATA])
    return TorchPredictor(model.net, info, torch_device(device), precision)


def intermediates(source: Source, precision: str, layers: Sequence[str], threads: int) -> Watch:
    """Outputs of convolutions, seen by hooks."""
    torch.set_num_threads(threads)
    net = copy.deepcopy(source.net(precision))  # which may be in use on another device
    predictor = TorchPredictor(net, source.info, torch.device("cpu"), precision)
    modules = dict(net.named_modules())

    def watch(image: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        found: dict[str, NDArray[np.float32]] = {}
        keep = {layer: lambda y, layer=layer: found.update({layer: _array(y)}) for layer in layers}
        with observed(modules, {}, keep):
            predictor(image)
        return found

    return watch


def _array(x: torch.Tensor) -> NDArray[np.float32]:
    """A copy: an activation in place would write into the tensor."""
    return x.float().cpu().numpy().copy()


ENGINE = Engine(
    "torch",
    precisions,
    build,
    load,
    simulated=True,
    intermediates=intermediates,
    defaults=partial(Defaults, float_first=2),  # of no speed to win by more
    devices=("cpu", "cuda"),
)
