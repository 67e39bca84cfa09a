"""Activations in front of one block, of all images: what every candidate behind it starts from."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch

from yoloq.base.files import writing
from yoloq.models.layered import State

Stored = State | Path


class Frontier:
    """The states of all batches in front of block `position`.

    They move forward with the sweep, so that each block of the base network runs once for all
    candidates. What does not fit into memory lies in files; floats are kept as they are, with
    their memory layout, so that the rest of the network gives the same bits as without a cache.

    Args:
        states: of each batch.
        position: the block in front of which they are.
        memory: bytes of activations kept in memory.
        folder: where the others go; the caller removes it.
    """

    def __init__(self, states: Iterable[State], position: int, memory: int, folder: Path) -> None:
        self.position = position
        self.memory = memory
        self.folder = folder
        self.used = 0
        self.stored = [self._store(index, state) for index, state in enumerate(states)]

    def __iter__(self) -> Iterator[State]:
        for stored in self.stored:
            yield self._load(stored)

    def move(self, run: Callable[[State], State], position: int) -> None:
        """Replace every state by what `run` makes of it in front of a later block.

        Raises:
            ValueError: the frontier is beyond that block already.
        """
        if position < self.position:
            raise ValueError(f"at block {self.position}, cannot go back to {position}")
        if position == self.position:
            return
        for index, stored in enumerate(self.stored):
            state = self._load(stored)
            if not isinstance(stored, Path):
                self.used -= _bytes(stored)
            self.stored[index] = self._store(index, run(state))
        self.position = position

    def _store(self, index: int, state: State) -> Stored:
        size = _bytes(state)
        if self.used + size <= self.memory:
            self.used += size
            return state
        file = self.folder / f"{index}.pt"
        with writing(file), open(file, "wb") as stream:
            torch.save(state, stream)
        return file

    def _load(self, stored: Stored) -> State:
        if isinstance(stored, Path):
            return torch.load(stored, weights_only=True)  # type: ignore[no-any-return]
        return stored


def _bytes(state: State) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in state.values())
