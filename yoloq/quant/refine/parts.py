"""What repairs changed so far, on disk: a killed run goes on behind its last whole block."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from yoloq.base.files import replace_when_whole
from yoloq.base.npz import opened
from yoloq.quant.refine.walk import Block

SIDES = ("weight", "bias")


class Parts:
    """Weights and biases of repaired convolutions, in an npz file under a key.

    Args:
        key: of all that they depend on; what the file holds under another is not taken.
    """

    def __init__(self, file: Path, key: str) -> None:
        self.file, self.key = file, key
        self.arrays: dict[str, NDArray[Any]] = {}
        try:
            with opened(file) as data:
                if str(data["key"]) == key:
                    self.arrays = {name: data[name] for name in data.files if name != "key"}
        except (OSError, ValueError, KeyError):
            pass  # there is nothing to go on from

    def restore(self, block: Block) -> bool:
        """Give a block what the file holds of it, if it holds all of it."""
        if not all(f"weight/{layer}" in self.arrays for layer in block.layers):
            return False
        for layer in block.layers:
            conv = block.conv(layer)
            for side in SIDES:
                if (array := self.arrays.get(f"{side}/{layer}")) is not None:
                    _set(conv, side, torch.from_numpy(array))
        return True

    def keep(self, block: Block) -> None:
        """Add a repaired block to the file."""
        for layer in block.layers:
            conv = block.conv(layer)
            for side in SIDES:
                if (tensor := getattr(conv, side)) is not None:
                    self.arrays[f"{side}/{layer}"] = tensor.detach().cpu().numpy()
        with replace_when_whole(self.file) as temporary, open(temporary, "wb") as stream:
            named: dict[str, Any] = {"key": np.array(self.key), **self.arrays}
            np.savez(stream, **named)


def _set(conv: torch.nn.Module, side: str, tensor: Tensor) -> None:
    device = next(conv.parameters()).device
    setattr(conv, side, torch.nn.Parameter(tensor.to(device)))
