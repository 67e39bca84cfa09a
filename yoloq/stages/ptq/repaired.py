"""`--refine`: a calibrated network repaired block by block, its progress kept in the run folder."""

import importlib
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from yoloq.base.errors import DataError
from yoloq.base.machine import torch_device
from yoloq.base.say import progress, say
from yoloq.data.loader import iterate
from yoloq.models.layered import LayeredNet
from yoloq.models.to_input import to_input
from yoloq.quant.quantized import QuantizedModel
from yoloq.quant.refine import REPAIRS
from yoloq.quant.refine.parts import Parts
from yoloq.quant.refine.walk import walk
from yoloq.stages.ptq import PtqConfig
from yoloq.stages.run import Inputs

PARTS = "refined.npz"
BATCH = 8  # images that go through both networks together


def repaired(
    inputs: Inputs, config: PtqConfig, quantized: QuantizedModel, images: tuple[Path, ...], key: str
) -> float:
    """Repair the quantized network in place as `--refine` says; the seconds it took.

    Args:
        images: calibration images, of which the first `--refine-images` are used.
        key: of the stage; what an earlier run with the same one had repaired is taken over.

    Raises:
        DataError: there are too few images for a repair.
    """
    if not config.refine:
        return 0.0
    began = time.perf_counter()
    chosen = images[: config.refine_images]
    check_images(config.refine, len(chosen))
    device = torch_device(config.device)
    net, reference = quantized.model.net.to(device), inputs.model.net.to(device)
    assert isinstance(net, LayeredNet) and isinstance(reference, LayeredNet)
    parts = Parts(config.folder / PARTS, key)
    if parts.arrays:
        say(f"refine: goes on from {parts.file}")
    makes = [importlib.import_module(f"yoloq.quant.refine.{name}").repair for name in config.refine]
    batches = list(_batches(inputs, chosen, device))
    with progress("refine", len(reference.model), "blocks") as advance:
        done = 0
        for block in walk(reference, net, quantized.placement, batches, config.seed):
            advance(block.position - done)
            done = block.position
            if not parts.restore(block):
                for make in makes:
                    make(block, config.refine_steps)
                parts.keep(block)
        advance(len(reference.model) - done)
    net.cpu()
    return time.perf_counter() - began


def check_images(names: tuple[str, ...], count: int) -> None:
    """Find too few images before long work.

    Raises:
        DataError: a repair needs more; says how many.
    """
    for name in names:
        if count < REPAIRS[name]:
            raise DataError(
                f"--refine {name}: needs {REPAIRS[name]} calibration images at least, not {count}; "
                "raise --images and --refine-images"
            )


def _batches(inputs: Inputs, images: tuple[Path, ...], device: torch.device) -> Iterator[Tensor]:
    skipped: list[Path] = []
    for batch in iterate(images, inputs.imgsz, BATCH, inputs.config.workers, skipped):
        yield to_input(batch.images, device)
