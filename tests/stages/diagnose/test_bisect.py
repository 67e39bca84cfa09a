"""Bisection to the smallest set of layers that is bad, on measures whose culprits are known."""

import math
import random
from collections.abc import Callable

import pytest

from yoloq.stages.diagnose.bisect import Layers, smallest_culprits

LAYERS = tuple(f"model.{i}" for i in range(57))
GOOD = 0.9
Measure = Callable[[Layers], float]


def needs(*culprits: str, bad: float = 0.5) -> Measure:
    """Bad as soon as all the culprits are quantized."""
    return lambda layers: bad if set(culprits) <= set(layers) else 0.95


def either(*culprits: str) -> Measure:
    """Bad as soon as one of them is quantized."""
    return lambda layers: 0.5 if set(culprits) & set(layers) else 0.95


def small_errors(cost: float) -> Measure:
    """Every layer costs the same."""
    return lambda layers: 1 - cost * len(layers)


def is_minimal(culprits: Layers, measure: Measure) -> bool:
    rests = [tuple(other for other in culprits if other != layer) for layer in culprits]
    return measure(culprits) < GOOD and all(measure(rest) >= GOOD for rest in rests)


CASES = {
    "first layer": (needs("model.0"), ["model.0"]),
    "last layer": (needs("model.56"), ["model.56"]),
    "one in the middle": (needs("model.29"), ["model.29"]),
    "pair in one half": (needs("model.3", "model.4"), ["model.3", "model.4"]),
    "pair over both halves": (needs("model.50", "model.3"), ["model.3", "model.50"]),
    "three": (needs("model.1", "model.28", "model.56"), ["model.1", "model.28", "model.56"]),
    "two, each bad alone": (either("model.7", "model.40"), ["model.7"]),
    "all together": (needs(*LAYERS), [*LAYERS]),
    "not a number": (needs("model.9", bad=float("nan")), ["model.9"]),
    "none": (small_errors(0.001), []),
    "small errors that add up": (small_errors(0.0099), None),
}


@pytest.mark.parametrize("name", CASES)
def test_culprits(name: str) -> None:
    measure, wanted = CASES[name]
    culprits, tried = smallest_culprits(LAYERS, measure, GOOD)
    k = len(culprits)
    if wanted is not None:
        assert list(culprits) == wanted
    else:
        assert k == 11, "ten layers cost 0.099"
        assert is_minimal(culprits, measure)
    assert len(tried) <= 2 * k * math.ceil(math.log2(len(LAYERS))) + k + 2


@pytest.mark.parametrize("culprit", LAYERS)
def test_one_culprit_takes_a_logarithm(culprit: str) -> None:
    culprits, tried = smallest_culprits(LAYERS, needs(culprit), GOOD)
    assert culprits == (culprit,)
    assert len(tried) <= 2 + 2 * 6  # 57 layers are halved six times


@pytest.mark.parametrize("monotone", [True, False], ids=["monotone", "layers make up for others"])
def test_result_is_minimal_whatever_the_measure(monotone: bool) -> None:
    draw = random.Random(0)
    found = 0
    for _ in range(200):
        cost = {layer: draw.random() ** 4 * 0.1 for layer in LAYERS}
        if not monotone:
            cost |= {layer: -cost[layer] for layer in draw.sample(LAYERS, 20)}

        def measure(layers: Layers, cost: dict[str, float] = cost) -> float:
            return 1 - sum(cost[layer] for layer in layers)

        culprits, _ = smallest_culprits(LAYERS, measure, GOOD)
        assert bool(culprits) == (measure(LAYERS) < GOOD)
        assert not culprits or is_minimal(culprits, measure)
        found += bool(culprits)
    assert found > 100


def test_each_set_is_measured_once_in_forward_order_and_reported() -> None:
    calls, reported = [], []

    def measure(layers: Layers) -> float:
        calls.append(layers)
        return needs("model.50", "model.3")(layers)

    _, tried = smallest_culprits(LAYERS, measure, GOOD, lambda *told: reported.append(told))
    assert len(set(calls)) == len(calls)
    assert all(list(layers) == sorted(layers, key=LAYERS.index) for layers in calls)
    assert [layers for layers, _ in tried] == calls
    assert tried == reported
    assert calls[:4] == [LAYERS, (), LAYERS[:29], LAYERS[29:]]


def test_good_layers_are_measured_once() -> None:
    assert smallest_culprits(LAYERS, needs("other"), GOOD) == ((), [(LAYERS, 0.95)])


def test_no_layers() -> None:
    assert smallest_culprits((), needs("other"), GOOD) == ((), [((), 0.95)])


def test_float_network_below_the_threshold() -> None:
    with pytest.raises(ValueError, match=r"below 0\.9 with every layer in float"):
        smallest_culprits(LAYERS, lambda layers: 0.8, GOOD)
