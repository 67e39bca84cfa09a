"""The state of a training run on disk: one file an epoch, from which the run can go on."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import RunError
from ..files import replace_when_whole, write_text
from .ema import WeightAverage

Epoch = dict[str, float]


@dataclass
class RunState:
    """Everything that an epoch changes. Save after an epoch, restore before the next.

    `key` identifies the settings; a file of other settings is not continued. Batches and schedule
    follow from the epoch, and nothing else is random, so that a restored run is bit-identical.
    """

    file: Path
    key: str
    net: nn.Module
    average: WeightAverage
    optimizer: torch.optim.Optimizer
    history: list[Epoch] = field(default_factory=list)

    def save(self) -> None:
        """Write the state and the table of epochs (`<stem>.csv`), each whole."""
        content: dict[str, Any] = {
            "key": self.key,
            "net": self.net.state_dict(),
            "average": self.average.net.state_dict(),
            "updates": self.average.updates,
            "optimizer": self.optimizer.state_dict(),
            "history": self.history,
        }
        with replace_when_whole(self.file) as temporary:
            torch.save(content, temporary)
        write_text(self.file.with_suffix(".csv"), table(self.history))

    def restore(self) -> bool:
        """Go back to the saved state; False where there is none for this key.

        Raises:
            RunError: the file is damaged.
        """
        if not self.file.exists():
            return False
        try:
            content = torch.load(self.file, weights_only=True, map_location="cpu")
        except Exception as error:  # torch raises many kinds for a damaged file
            raise RunError(f"{self.file}: is damaged; remove it to start anew") from error
        if content["key"] != self.key:
            return False
        self.net.load_state_dict(content["net"])
        self.average.net.load_state_dict(content["average"])
        self.average.updates = content["updates"]
        self.optimizer.load_state_dict(content["optimizer"])
        self.history = content["history"]
        return True


def table(history: list[Epoch]) -> str:
    """CSV text with one row an epoch; columns in order of first appearance."""
    columns = list(dict.fromkeys(name for row in history for name in row))
    lines = [",".join(columns)]
    lines += [
        ",".join(f"{row.get(name, ''):.6g}" if name in row else "" for name in columns)
        for row in history
    ]
    return "\n".join(lines) + "\n"
