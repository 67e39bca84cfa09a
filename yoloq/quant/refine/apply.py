"""Repairs in their order, block by block."""

import importlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from yoloq.base.say import progress
from yoloq.data.loader import iterate
from yoloq.models.layered import LayeredNet
from yoloq.models.load import LoadedModel
from yoloq.models.to_input import to_input
from yoloq.quant.quantized import QuantizedModel
from yoloq.quant.refine import REPAIRS, check_images
from yoloq.quant.refine.parts import Parts
from yoloq.quant.refine.walk import walk, with_integer_weights

BATCH = 8  # images that go through both networks together


def batches_of(
    files: Sequence[Path], imgsz: int, device: torch.device, workers: int = 0
) -> Iterator[Tensor]:
    """Images (N, 3, imgsz, imgsz) as a network takes them; what cannot be read is left out."""
    for batch in iterate(files, imgsz, BATCH, workers, []):
        yield to_input(batch.images, device)


def refine(
    model: LoadedModel,
    quantized: QuantizedModel,
    batches: Iterable[Tensor],
    names: Iterable[str],
    *,
    steps: int,
    seed: int,
    parts: Parts | None = None,
) -> None:
    """Repair a calibrated network in place, where both networks are; shows its progress.

    Args:
        model: the float model, fused.
        quantized: its calibrated copy.
        batches: (N, 3, H, W) floats as the networks take them; all are kept in memory.
        names: as `read_repairs` gives them; moves are done already and left out.
        steps: of the fits.
        parts: where what is done is kept, and what was done before is taken from.

    Raises:
        DataError: too few images are left for a repair, as some cannot be read.
    """
    names, images = tuple(name for name in names if name in REPAIRS), tuple(batches)
    check_images(names, sum(map(len, images)))
    if not names:
        return
    net, reference = quantized.model.net, model.net
    assert isinstance(net, LayeredNet) and isinstance(reference, LayeredNet)
    repairs = [importlib.import_module(f"yoloq.quant.refine.{name}").repair for name in names]
    layers, count = with_integer_weights(net, quantized.placement), len(reference.model)
    with progress("refine", count, "blocks") as advance:
        done = 0
        for block in walk(reference, net, layers, images, model.head, seed):
            advance(block.position - done)
            done = block.position
            if parts is not None and parts.restore(block):
                continue
            for repair in repairs:
                repair(block, steps)
            if parts is not None:
                parts.keep(block)
        advance(count - done)
