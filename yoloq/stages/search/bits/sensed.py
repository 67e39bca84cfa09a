"""The sensitivities of all layers and widths: one pass over calibration images, and the journal."""

from collections.abc import Iterator, Mapping

from torch import Tensor

from yoloq.base.machine import torch_device
from yoloq.base.say import progress
from yoloq.data.loader import iterate
from yoloq.models.to_input import to_input
from yoloq.quant.mixed.loss_per_bit import Losses, losses
from yoloq.quant.mixed.width import Width
from yoloq.quant.modules import QuantConv2d
from yoloq.quant.ptq import INFLUENCE_BATCH, calibrate_model
from yoloq.stages.search.bits.bit_lines import Sensed
from yoloq.stages.search.bits.bit_space import BitSpace
from yoloq.stages.search.screen import Workshop


def sensed(shop: Workshop, space: BitSpace) -> dict[str, Mapping[str, Mapping[str, float]]]:
    """What each layer loses at each of its widths, by layer and sensitivity."""
    lines = {layer.name: shop.journal.find(Sensed, layer.name) for layer in space.layers}
    wanted = {layer.name: _integers(layer.widths) for layer in space.layers}
    if any(line is None or not _has(line, wanted[name]) for name, line in lines.items()):
        found = _pass(shop, space)
        for name, lost in found.items():
            shop.journal.append(Sensed(name, lost))
    return {layer.name: shop.journal.line(Sensed, layer.name).losses for layer in space.layers}


def _integers(widths: tuple[Width, ...]) -> set[str]:
    return {str(width) for width in widths if width.quantized}


def _has(line: Sensed, widths: set[str]) -> bool:
    return all(widths <= set(by_width) for by_width in line.losses.values())


def _pass(shop: Workshop, space: BitSpace) -> dict[str, Losses]:
    inputs, config = shop.inputs, shop.config
    device = torch_device(config.device)
    net = inputs.model.net.to(device)
    files, quantized = shop.calibration[: config.screen], _convolutions(shop, space)
    with progress("losses of each layer", len(files)) as advance:

        def batches() -> Iterator[Tensor]:
            for batch in iterate(files, inputs.imgsz, INFLUENCE_BATCH, config.workers, []):
                yield to_input(batch.images, device)
                advance(len(batch.images))

        return losses(net, inputs.model.head, quantized, batches(), config.seed)


def _convolutions(shop: Workshop, space: BitSpace) -> dict[str, dict[str, QuantConv2d]]:
    """Each layer at each of its widths, calibrated and repaired as PTQ will do it."""
    model, ops, device = shop.inputs.model, shop.inputs.ops, torch_device(shop.config.device)
    found: dict[str, dict[str, QuantConv2d]] = {layer.name: {} for layer in space.layers}
    for width in sorted({w for layer in space.layers for w in layer.widths if w.quantized}):
        policy = space.policy(space.everywhere(width))
        quantized = calibrate_model(model, policy, shop.collected, space.calibrator, ops)[0]
        net = shop.repaired(quantized).model.net.to(device)
        for layer in space.layers:
            if width in layer.widths:
                conv = net.get_submodule(layer.name)
                assert isinstance(conv, QuantConv2d)
                found[layer.name][str(width)] = conv
    return found
