"""The pieces of a search: the front, predictions, placements as points."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tiny_quant import tiny_model

from yoloq.engines.base import Defaults
from yoloq.measure.pareto import Spot, pareto
from yoloq.quant.policy import conv_layers, resolve
from yoloq.quant.trace import trace
from yoloq.stages.search import SearchConfig
from yoloq.stages.search.front import answer, knee
from yoloq.stages.search.predict import Forecast, fit
from yoloq.stages.search.space import Point, Space, spans
from yoloq.stages.search.trials import Trials

FP32 = Spot("fp32", 20.0, 0.0, int8=False)
SPOTS = [
    FP32,
    Spot("bf16", 12.0, 0.004, int8=False),
    Spot("all", 8.0, 0.050),
    Spot("most", 8.5, 0.012),
    Spot("slow", 9.0, 0.030),
    Spot("half", 11.0, 0.006),
    Spot("slower than bf16", 13.0, 0.003),
]


@pytest.mark.parametrize(
    ("spots", "names"),
    [
        pytest.param(
            SPOTS, ["all", "most", "half", "bf16", "slower than bf16", "fp32"], id="front"
        ),
        pytest.param([FP32], ["fp32"], id="one"),
        pytest.param([Spot("b", 1, 0.2), Spot("a", 1, 0.1)], ["a"], id="as fast"),
        pytest.param([Spot("a", 1, 0.1), Spot("b", 2, 0.1)], ["a"], id="as good"),
        pytest.param([], [], id="nothing"),
    ],
)
def test_the_front_is_what_no_other_beats(spots: list[Spot], names: list[str]) -> None:
    assert [spot.name for spot in pareto(spots)] == names


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        pytest.param({}, "most", id="knee"),
        pytest.param({"max_drop": 0.02}, "most", id="fastest within"),
        pytest.param({"max_drop": 0.005}, "bf16", id="a float engine is faster"),
        pytest.param({"max_drop": 0.1}, "all", id="everything in int8"),
        pytest.param({"max_latency": 9.0}, "most", id="best within"),
        pytest.param({"max_latency": 100.0}, "fp32", id="all the time there is"),
    ],
)
def test_an_answer(asked: dict[str, float], name: str) -> None:
    found = answer(SPOTS, **asked)
    assert found is not None and found.name == name


@pytest.mark.parametrize("asked", [{"max_drop": -0.1}, {"max_latency": 7.9}], ids=str)
def test_no_answer(asked: dict[str, float]) -> None:
    assert answer(SPOTS, **asked) is None


def test_int8_that_is_slower_than_float_is_never_the_knee() -> None:
    spots = [Spot("fp32", 5.0, 0.0, int8=False), Spot("a", 6.0, 0.1), Spot("b", 7.0, 0.05)]
    assert answer(spots).name == "fp32"


def test_a_straight_front_has_its_knee_where_least_is_lost() -> None:
    straight = [Spot("a", 1.0, 0.2), Spot("b", 2.0, 0.1), Spot("c", 3.0, 0.0)]
    assert knee(straight).name == "c"


@pytest.mark.parametrize(
    ("numbers", "text"),
    [((), ""), ((3,), "3"), ((0, 1, 2, 24), "0-2 24"), ((1, 3, 5, 6), "1 3 5-6")],
    ids=str,
)
def test_spans(numbers: tuple[int, ...], text: str) -> None:
    assert spans([f"model.{number}" for number in numbers]) == text


NOISE = {
    (False, "mse", "model.0"): 0.01,
    (False, "mse", "model.1"): 0.03,
    (False, "mse", "model.2"): 0.02,
    (False, "percentile", "model.0"): 0.01,
    (False, "percentile", "model.1"): 0.02,
    (False, "percentile", "model.2"): 0.05,
}
MS = {"model.0": (1.0, 2.0), "model.1": (2.0, 4.0), "model.2": (1.0, 1.0)}


def forecast() -> Forecast:
    """Nodes add up to 4 and 7 ms, whole runs to 5 and 11: float costs twice what the nodes say."""
    return Forecast(NOISE, MS, (5.0, 11.0))


def test_time_adds_up_to_that_of_whole_runs() -> None:
    known = forecast()
    everything = Point(False, "none", False, tuple(MS))
    assert known.ms_of(Point(False, "none", False, ())) == 5.0
    assert known.ms_of(everything) == pytest.approx(11.0)
    assert known.ms_of(Point(False, "none", False, ("model.0",))) == pytest.approx(7.0)


def test_noise_adds_up_over_what_is_in_int8() -> None:
    known, mse = forecast(), dict.fromkeys(MS, "mse")
    assert known.noise_of(Point(False, "none", False, ()), mse) == pytest.approx(0.06)
    assert known.noise_of(Point(False, "none", False, ("model.1",)), mse) == pytest.approx(0.03)
    mixed = {block: known.best(False, block, ("mse", "percentile")) for block in MS}
    assert mixed == {"model.0": "mse", "model.1": "percentile", "model.2": "mse"}


def test_the_order_is_of_noise_for_time() -> None:
    """model.2 is as fast in float; then 0.03 for 4 ms before 0.01 for 2."""
    order = forecast().order(False, dict.fromkeys(MS, "mse"))
    assert order == ["model.2", "model.1", "model.0"]


@pytest.mark.parametrize("power", [0.4, 0.7])
def test_loss_follows_what_was_measured(power: float) -> None:
    noises = [0.001, 0.01, 0.1]
    found = fit([(noise, 0.3 * noise**power) for noise in noises])
    assert found is not None
    assert found(0.03) == pytest.approx(0.3 * 0.03**power)
    assert found(0.0) == 0.0


def test_one_measurement_gives_a_root_and_none_nothing() -> None:
    found = fit([(0.04, 0.1)])
    assert found is not None and found(0.01) == pytest.approx(0.05)
    assert fit([]) is None and fit([(0.1, 0.0), (0.1, -0.2), (0.0, 0.1)]) is None
    assert not math.isnan(fit([(0.1, 0.1), (0.1, 0.2), (0.1, 0.3)])(0.1))


def space(**defaults: object) -> Space:
    """Of the small yolov5, where percentile serves model.5 better."""
    blocks = tuple(conv_layers(tiny_model().net))
    best = dict.fromkeys(blocks, "mse") | {"model.5": "percentile"}
    return Space(blocks, Defaults(**defaults), {True: best, False: best}, "mse")  # type: ignore[arg-type]


def test_the_default_is_that_of_ptq() -> None:
    assert space().default == Point(False, "none", False, ("model.24",))
    tensorrt = space(symmetric=True, float_first=2, zero_points=False, residual="input")
    assert tensorrt.default == Point(True, "input", False, ("model.0", "model.1", "model.24"))
    assert tensorrt.symmetries == (True,) and space().symmetries == (False, True)


def test_a_point_becomes_a_policy() -> None:
    ops = trace(tiny_model().net)
    own = space()
    placement = resolve(own.policy(Point(True, "both", True, ("model.2", "model.24"))), ops)
    assert {name.split(".")[1] for name in placement.float_layers} == {"2", "24"}
    image, inner = placement.layers["model.0.conv"], placement.layers["model.3.conv"]
    assert image.activation is not None and not image.activation.symmetric
    assert inner.activation is not None and inner.activation.symmetric
    assert placement.layers["model.5.conv"].calibrator == "percentile"
    assert inner.calibrator == "mse"
    assert placement.adds
    plain = resolve(own.policy(Point(True, "none", False, ())), ops)
    assert plain.layers["model.5.conv"].calibrator == "mse" and not plain.adds


def test_without_zero_points_the_image_is_symmetric_too() -> None:
    own = space(symmetric=True, zero_points=False)
    placement = resolve(own.policy(Point(True, "none", False, ())), trace(tiny_model().net))
    assert all(plan.activation.symmetric for plan in placement.layers.values() if plan.activation)


def test_neighbours_differ_in_one_thing() -> None:
    own = space()
    start = Point(False, "none", False, ("model.3", "model.24"))
    near = list(own.neighbours(start, order=["model.24", "model.2", "model.3", "model.0"]))
    assert [p.floats for p in near[:4]] == [
        ("model.24",),
        ("model.3",),
        ("model.2", "model.3", "model.24"),
        ("model.0", "model.3", "model.24"),
    ]
    assert [(p.mixed, p.residual, p.symmetric) for p in near[4:]] == [
        (True, "none", False),
        (False, "input", False),
        (False, "both", False),
        (False, "none", True),
    ]


def test_a_neighbour_keeps_a_block_in_int8() -> None:
    own = space()
    start = Point(False, "none", False, own.blocks[1:])
    near = list(own.neighbours(start, order=own.blocks))
    assert len(near) > 2
    assert all(set(point.floats) < set(own.blocks) for point in near)


def test_time_left_counts_placements_and_their_repairs(tmp_path: Path) -> None:
    shop: Any = SimpleNamespace(config=SearchConfig(trials=8))
    trials = Trials(shop, space(), forecast(), ("fp32", "bf16"), tmp_path, took=[30.0, 10.0])
    trials.points = {name: space().default for name in ("a", "b", "c")}  # one from an earlier run
    assert trials.left() == "3 of 8 placements, left 0:01:40"
