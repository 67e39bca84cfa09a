"""The space of networks: names, specs, and which is tried next."""

import itertools

import pytest
from torch import nn

from yoloq.models.load import new_model
from yoloq.stages.nas import NasConfig
from yoloq.stages.nas.network_space import Architecture, Candidate, NetworkSpace


def test_a_network_is_that_of_its_name() -> None:
    architecture = Architecture(0.125, 0.67, "relu")
    assert Candidate(architecture, 4).name == "w0.125-d0.67-relu-4bit"
    net = new_model("yolov5", architecture.spec(2), ("a", "b")).net
    kinds = {type(m) for m in net.modules()}
    assert nn.ReLU in kinds and nn.SiLU not in kinds
    assert net.get_submodule("model.0.conv").out_channels == 8
    assert len(net.get_submodule("model.4.m")) == 4  # 6 repeats times 0.67


@pytest.mark.parametrize("seed", [0, 7])
def test_all_places_come_once(seed: int) -> None:
    config = NasConfig(widths=(0.25, 0.5), depths=(0.33,), bits=(8, 4), seed=seed)
    space, tried = NetworkSpace(config), []
    while (place := space.next(tried, [], 3)) is not None:
        tried.append(place)
    assert len(tried) == len(set(tried)) == 2 * 1 * 3 * 2
    assert len({space.candidate(place).name for place in tried}) == 12
    again = []
    while len(again) < 12:
        again.append(NetworkSpace(config).next(again, [], 3))
    assert again == tried


def test_the_first_lie_far_apart() -> None:
    """Five widths alone: the second is the end that is further from the first."""
    widths = (0.1, 0.2, 0.3, 0.4, 0.5)
    for seed in range(8):
        config = NasConfig(
            widths=widths, depths=(1.0,), activations=("relu",), bits=(8,), seed=seed
        )
        space = NetworkSpace(config)
        first = space.next([], [], 3)
        second = space.next([first], [first], 3)
        ends = {0: (4,), 1: (4,), 2: (0, 4), 3: (0,), 4: (0,)}
        assert second[0] in ends[first[0]]


def test_then_those_beside_the_front_come() -> None:
    config = NasConfig(widths=(0.1, 0.2, 0.3, 0.4, 0.5), depths=(0.33, 0.67), bits=(8,))
    space, best = NetworkSpace(config), (1, 0, 1, 0)
    tried = [best]
    for _ in range(5):
        tried.append(space.next(tried, [best], 1))
    ours = {(0, 0, 1, 0), (2, 0, 1, 0), (1, 1, 1, 0), (1, 0, 0, 0), (1, 0, 2, 0)}
    assert set(tried[1:]) == ours


def test_distances_are_of_axes_from_0_to_1() -> None:
    space = NetworkSpace(NasConfig(widths=(0.1, 0.2, 0.3), depths=(0.33, 1.0), bits=(8,)))
    assert space.apart((0, 0, 0, 0), (1, 0, 0, 0)) == 0.5
    assert space.apart((0, 0, 0, 0), (2, 1, 2, 0)) == 3.0
    for a, b in itertools.product(space.places, repeat=2):
        assert (space.apart(a, b) == 0) == (a == b)
