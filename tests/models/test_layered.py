"""Networks run in pieces: bit for bit what they are in one."""

import pytest
import torch
from tiny_quant import as_input, pictures, tiny_model

from yoloq.models import FAMILIES
from yoloq.models.layered import IMAGE, RAW, LayeredNet

pytestmark = pytest.mark.usefixtures("one_thread")


class Plus(torch.nn.Module):
    """Adds a number, or sums a list of maps."""

    def __init__(self, number: int = 0) -> None:
        super().__init__()
        self.number = number

    def forward(self, x):
        return sum(x) if isinstance(x, list) else x + self.number


def numbers() -> LayeredNet:
    """Blocks x + 1, + 2, + 4, the sum of blocks 0 and 2, + 8."""
    blocks = [Plus(1), Plus(2), Plus(4), Plus(), Plus(8)]
    return LayeredNet(torch.nn.Sequential(*blocks), [-1, -1, -1, [-1, 0], 3])


def test_what_is_needed_later_is_kept() -> None:
    net = numbers()
    state = net.advance({IMAGE: 0}, 0, 2)
    assert state == {0: 1, 1: 3}
    assert net.advance(state, 2, 3) == {0: 1, 2: 7}
    assert state == {0: 1, 1: 3}, "a state is not changed"
    assert net.advance(state, 2, 5) == {4: 16}
    assert net(0) == 16


@pytest.mark.parametrize("family", FAMILIES)
def test_pieces_give_what_the_whole_gives(family: str) -> None:
    net = tiny_model(family).net
    images = as_input(pictures(2))
    count = len(net.model)
    with torch.inference_mode():
        expected = net(images)
        state = {IMAGE: images}
        for start in range(count):
            found = net.advance(state, start, count)[count - 1]
            assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
            state = net.advance(state, start, start + 1)
    assert list(state) == [count - 1]


@pytest.mark.parametrize("family", FAMILIES)
def test_raw_maps_that_no_later_block_changes_are_made_once(family: str) -> None:
    net = tiny_model(family).net
    images = as_input(pictures(2))
    count, sources = len(net.model), net.sources[-1]
    with torch.inference_mode():
        expected = net(images)
        for position in range(count):
            state = net.settled(net.advance({IMAGE: images}, 0, position), position)
            made = [source < position for source in sources] if position < count - 1 else []
            assert sum(key <= RAW for key in state) == sum(made)
            for level in range(sum(made)):
                state[RAW - level] = state[RAW - level] + 1  # to see that it is taken
            found = net.advance(state, position, count)[count - 1]
            for level, (a, b) in enumerate(zip(expected, found, strict=True)):
                assert torch.equal(a + (level < sum(made)), b)
            assert not any(key <= RAW for key in net.settled(state, count - 1))
