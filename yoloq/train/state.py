"""The state of a training run on disk: one file an epoch, from which the run can go on."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from yoloq.base.errors import RunError
from yoloq.base.files import replace_when_whole, write_text
from yoloq.base.machine import raise_memory
from yoloq.train.ema import WeightAverage

Epoch = dict[str, float]
KEYS = ("key", "settings", "net", "average", "updates", "optimizer", "history", "extra")


@dataclass
class RunState:
    """Everything that an epoch changes. Save after an epoch, restore before the next.

    `key` identifies the settings; a file of other settings is not continued. Batches and schedule
    follow from the epoch, and nothing else is random, so that a restored run is bit-identical.
    `extra` holds what else has to survive, as tensors and plain data; `settings` are readable ones
    to name when the key differs. An epoch 0, before training, is `extra["start"]`. `writes` is
    False in all processes of a parallel run but one.
    """

    file: Path
    key: str
    net: nn.Module
    average: WeightAverage
    optimizer: torch.optim.Optimizer
    history: list[Epoch] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    writes: bool = True

    def save(self) -> None:
        """Write the state and the table of epochs (`<stem>.csv`), each whole."""
        if not self.writes:
            return
        content: dict[str, Any] = {
            "key": self.key,
            "settings": self.settings,
            "net": self.net.state_dict(),
            "average": self.average.net.state_dict(),
            "updates": self.average.updates,
            "optimizer": self.optimizer.state_dict(),
            "history": self.history,
            "extra": self.extra,
        }
        with replace_when_whole(self.file) as temporary, open(temporary, "wb") as stream:
            torch.save(content, stream)
        write_text(self.file.with_suffix(".csv"), table(self.rows()))

    def remove(self) -> None:
        """Delete what `save` wrote."""
        for file in (self.file, self.file.with_suffix(".csv")):
            file.unlink(missing_ok=True)

    def rows(self) -> list[Epoch]:
        """The table of epochs, with epoch 0 where that was measured."""
        return [row for row in [self.extra.get("start")] if row] + self.history

    def restore(self) -> bool:
        """Go back to the saved state; False where there is none for this key.

        Raises:
            RunError: the file is damaged.
        """
        content = self._read()
        if content is None or content["key"] != self.key:
            return False
        self.net.load_state_dict(content["net"])
        self.average.net.load_state_dict(content["average"])
        self.average.updates = content["updates"]
        self.optimizer.load_state_dict(content["optimizer"])
        self.history = content["history"]
        self.extra = content["extra"]
        return True

    def refuse_other_settings(self, finished: str = "") -> None:
        """Check that the file, where there is one, is of these settings.

        Args:
            finished: key of a run that came to its end; its state may have been left behind.

        Raises:
            RunError: it is of others; names them. Or it is damaged.
        """
        content = self._read()
        if content is None or content["key"] in (self.key, finished):
            return
        then, changed = content["settings"], []
        for name in sorted({*then, *self.settings}):
            if then.get(name) != self.settings.get(name):
                changed.append(f"{name} was {then.get(name)}, is {self.settings.get(name)}")
        raise RunError(
            f"{self.file}: an interrupted run with another configuration "
            f"({'; '.join(changed) or 'other inputs'}); give that one again to go on, "
            "or --force to start anew"
        )

    def _read(self) -> dict[str, Any] | None:
        if not self.file.exists():
            return None
        try:
            content = torch.load(self.file, weights_only=True, map_location="cpu")
            return {name: content[name] for name in KEYS}
        except Exception as error:  # torch raises many kinds for a damaged file
            raise_memory(error)
            raise RunError(f"{self.file}: is damaged; remove it to start anew") from error


def table(history: list[Epoch]) -> str:
    """CSV text with one row an epoch; columns in order of first appearance."""
    columns = list(dict.fromkeys(name for row in history for name in row))
    lines = [",".join(columns)]
    lines += [
        ",".join(f"{row.get(name, ''):.6g}" if name in row else "" for name in columns)
        for row in history
    ]
    return "\n".join(lines) + "\n"
