"""Block reconstruction: the rounding of a whole block at once, so that layers make up for another.

Li et al., BRECQ: Pushing the Limit of Post-Training Quantization by Block Reconstruction, 2021,
with the dropping of Wei et al., QDrop: Randomly Dropping Quantization for Extremely Low-bit
Post-Training Quantization, 2022.
"""

from yoloq.quant.refine.units import sample, single
from yoloq.quant.refine.up_or_down import fit
from yoloq.quant.refine.walk import Block


def repair(block: Block, steps: int) -> None:
    """Decide the rounding of a block; one that reads or gives several maps goes layer by layer."""
    head = block.position == len(block.quantized.model) - 1
    whole = isinstance(block.quantized.sources[block.position], int) and not head
    for unit in [block.name] if whole else single(block):
        module = block.quantized.get_submodule(unit)
        fit(module, sample(block, unit), steps, True, block.random)
