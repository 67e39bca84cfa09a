"""Everything that a swap starts from."""

import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from yoloq.base.own_files import MAKE
from yoloq.models.load import LoadedModel
from yoloq.stages.fine_tune.tuned import Tuned
from yoloq.stages.swap import SwapConfig


@dataclass(frozen=True)
class SwapSetup(Tuned):
    """Everything that training starts from.

    `swapped` is the model with the other activations, `start` that with weights fitted to them,
    which is trained. `layers` are where they stand, and `blocks` what `--layers auto` measured.
    `result_key` is that of the stage's result.
    """

    config: SwapConfig
    swapped: LoadedModel
    start: LoadedModel
    layers: tuple[str, ...]
    blocks: list[dict[str, Any]]
    result_key: str

    stage = "swap"
    use = f"{MAKE} swap"
    before = "untrained"

    @cached_property
    def student(self) -> nn.Module:  # type: ignore[override]
        net = copy.deepcopy(self.start.net).requires_grad_(True).to(self.device)
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # 1.25 times as fast
        return net

    @property
    def untrained(self) -> nn.Module:
        return self.start.net
