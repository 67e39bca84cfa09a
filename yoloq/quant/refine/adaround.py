"""AdaRound: the rounding of each convolution is fitted to its own output behind the activation."""

from yoloq.quant.refine.units import sample, single
from yoloq.quant.refine.up_or_down import fit
from yoloq.quant.refine.walk import Block


def repair(block: Block, steps: int) -> None:
    """Decide the rounding of each convolution of a block, each after those before it."""
    for unit in single(block):
        module = block.quantized.get_submodule(unit)
        fit(module, sample(block, unit), steps, False, block.random)
