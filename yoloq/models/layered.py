"""A network as a list of blocks, which can be run in pieces."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

IMAGE = -1  # key of the image in a state
RAW = -2  # of the first raw map, where it was made before its turn; the next levels count down
State = dict[int, Any]


class LayeredNet(nn.Module):
    """Blocks that read the outputs of earlier blocks; the last one gives the raw maps.

    Args:
        blocks: in the order in which they run.
        sources: for each the block it reads, or a list of blocks for one that takes a list of
            maps. Negative numbers count back from the block itself: -1 is the one before it, and
            of the first block the image.

    The last block, the head, makes one map of each it reads; `level(index, x)` makes a single one,
    and `stride` holds the pixels a cell of each.

    `forward` takes (N, 3, H, W) floats in 0..1 and returns a list of raw maps (N, C, H, W).
    """

    def __init__(self, blocks: nn.Sequential, sources: Sequence[int | Sequence[int]]) -> None:
        super().__init__()
        self.model = blocks
        self.sources = [_absolute(source, index) for index, source in enumerate(sources)]
        self.last_reader = {
            read: index for index, source in enumerate(self.sources) for read in _as_list(source)
        }

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels a cell of each raw map."""
        head: Any = self.model[-1]
        return tuple(head.stride)

    def forward(self, x: Tensor) -> list[Tensor]:
        count = len(self.model)
        return self.advance({IMAGE: x}, 0, count)[count - 1]

    def advance(self, state: State, start: int, stop: int) -> State:
        """Run blocks `start` to `stop - 1` and return what the blocks from `stop` on read.

        A state holds block outputs by number, and the image as `IMAGE`. It is not changed: from
        one state several variants of the rest can run. After the last block it holds the raw maps.
        """
        state = dict(state)
        for index in range(start, stop):
            if any(key <= RAW for key in state) and index == len(self.model) - 1:
                return {index: self._maps(state)}
            source = self.sources[index]
            maps = [state[i] for i in source] if isinstance(source, list) else state[source]
            state[index] = self.model[index](maps)
            del maps  # or the memory of what no other block reads could not serve the next one
            state = {i: y for i, y in state.items() if self.last_reader.get(i, index + 1) > index}
        return state

    def settled(self, state: State, position: int) -> State:
        """The state with the raw maps that the blocks from `position` on do not change.

        `advance` then takes them as they are. In front of the head itself there are none: it is
        the block that makes them.
        """
        head = len(self.model) - 1
        settled = {key: y for key, y in state.items() if key > RAW or position < head}
        for level, source in enumerate(self.sources[head]):  # type: ignore[arg-type]
            if source < position < head and RAW - level not in settled:
                settled[RAW - level] = self._level(level, state[source])
        return settled

    def _maps(self, state: State) -> list[Tensor]:
        """What the head gives, of which the state holds a part."""
        head = len(self.model) - 1
        return [
            state[RAW - level] if RAW - level in state else self._level(level, state[source])
            for level, source in enumerate(self.sources[head])  # type: ignore[arg-type]
        ]

    def _level(self, level: int, x: Tensor) -> Tensor:
        head: Any = self.model[-1]
        raw: Tensor = head.level(level, x)
        return raw


def _absolute(source: int | Sequence[int], index: int) -> int | list[int]:
    """Block numbers counted from the start."""
    if isinstance(source, int):
        return source if source >= 0 else index + source
    return [i if i >= 0 else index + i for i in source]


def _as_list(source: int | list[int]) -> list[int]:
    return source if isinstance(source, list) else [source]
