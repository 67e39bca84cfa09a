"""`--refine`: scales moved before the calibration, and what is calibrated repaired block by block.

The repairs' progress is kept in the run folder; moves take seconds and are done again.
"""

import time
from pathlib import Path

from torch import Tensor

from yoloq.base.machine import torch_device
from yoloq.base.say import say
from yoloq.quant.moved import MOVES, moves_of
from yoloq.quant.moved.float_twin import Moved, moved
from yoloq.quant.quantized import QuantizedModel
from yoloq.quant.refine import REPAIRS, check_images
from yoloq.quant.refine.apply import batches_of, refine
from yoloq.quant.refine.parts import Parts
from yoloq.stages.ptq import PtqConfig
from yoloq.stages.run import Inputs

PARTS = "refined.npz"


def with_moves(inputs: Inputs, config: PtqConfig, images: tuple[Path, ...]) -> tuple[Inputs, Moved]:
    """The inputs with the scales of their float model moved as `--refine` says, and by what.

    Args:
        images: calibration images, of which the first `--refine-images` are used.

    Raises:
        DataError: too few of them are left for a move, as some cannot be read.
    """
    names = moves_of(config.refine)
    if not names:
        return inputs, {}
    device = torch_device(config.device)
    inputs.model.net.to(device)
    batches: tuple[Tensor, ...] = ()
    if any(MOVES[name] for name in names):
        files = images[: config.refine_images]
        batches = tuple(batches_of(files, inputs.imgsz, device, config.workers))
    check_images(names, sum(map(len, batches)))
    factors = moved(inputs.model, names, batches, inputs.ops)
    return inputs.as_moved(factors), factors


def repaired(
    inputs: Inputs, config: PtqConfig, quantized: QuantizedModel, images: tuple[Path, ...], key: str
) -> float:
    """Repair the quantized network in place as `--refine` says; the seconds it took.

    Args:
        images: calibration images, of which the first `--refine-images` are used.
        key: of the stage; what an earlier run with the same one had repaired is taken over.
    """
    if not set(config.refine) & REPAIRS.keys():
        return 0.0
    began = time.perf_counter()
    parts = Parts(config.folder / PARTS, key)
    if parts.arrays:
        say(f"refine: goes on from {parts.file}")
    repair(inputs, config, quantized, images, parts)
    return time.perf_counter() - began


def repair(
    inputs: Inputs,
    config: PtqConfig,
    quantized: QuantizedModel,
    images: tuple[Path, ...],
    parts: Parts | None = None,
) -> None:
    """The same, for once; `parts` is where its progress is kept."""
    device = torch_device(config.device)
    inputs.model.net.to(device)
    quantized.model.net.to(device)
    files = images[: config.refine_images]
    batches = batches_of(files, inputs.imgsz, device, config.workers)
    steps, seed = config.refine_steps, config.seed
    refine(inputs.model, quantized, batches, config.refine, steps=steps, seed=seed, parts=parts)
    quantized.model.net.cpu()  # its file opens on any machine
