"""The drawing functions: scales, ticks, escaping, names that do not cover each other."""

import math
from xml.etree import ElementTree

import pytest

from yoloq.report.svg.axis import Axis, short, spanning
from yoloq.report.svg.bars import Bar, horizontal_bars
from yoloq.report.svg.elements import drawing, element, number, text
from yoloq.report.svg.lines import Lines, Series
from yoloq.report.svg.marks import Style, look
from yoloq.report.svg.name_places import names_of
from yoloq.report.svg.scatter import Dot, Scatter


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (0.13, 0.62, [0.2, 0.3, 0.4, 0.5, 0.6]),
        (-5, 5, [-4, -2, 0, 2, 4]),
        (63.75, 64.45, [63.8, 64.0, 64.2, 64.4]),
    ],
)
def test_ticks_are_round(low: float, high: float, ticks: list[float]) -> None:
    assert Axis(low, high, 0, 100).ticks() == pytest.approx(ticks)


def test_ticks_of_powers() -> None:
    assert Axis(0.5, 3000, 0, 1, log=True).ticks() == pytest.approx([1, 10, 100, 1000])
    assert Axis(2, 7, 0, 1, log=True).ticks() == [2, 5]
    assert Axis(0.05, 0.5, 0, 1, log=True).ticks() == pytest.approx([0.05, 0.1, 0.2, 0.5])
    assert Axis(2.1, 2.9, 0, 1, log=True).ticks(4) == pytest.approx([2.2, 2.4, 2.6, 2.8])


def test_places() -> None:
    axis = Axis(10, 30, 100, 200)
    assert [axis.at(v) for v in (10, 20, 30, 99, -99)] == [100, 150, 200, 200, 100]
    assert axis.at(math.nan) == 100
    assert Axis(1, 100, 0, 100, log=True).at(10) == pytest.approx(50)


@pytest.mark.parametrize("values", [[], [5.0], [0.0, 0.0], [math.nan], [math.inf, 1.0]])
@pytest.mark.parametrize("log", [False, True])
def test_any_values_give_an_axis(values: list[float], log: bool) -> None:
    axis = spanning(values, 0, 100, log)
    assert axis.low < axis.high and axis.ticks()


def test_bars_stand_on_zero() -> None:
    assert spanning([1.0, 3.0], 0, 1, zero=True).low == 0
    assert spanning([-2.0, -1.0], 0, 1, zero=True).high == 0


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.5, "0.5"), (0.30000000000000004, "0.3"), (1e-5, "1e-5"), (1e6, "1e6"), (0, "0")],
)
def test_labels_of_ticks(value: float, words: str) -> None:
    assert short(value) == words


def test_what_is_text_stays_text() -> None:
    drawn = element("rect", title='<b> & "c"', aria_label='a"b<')
    parsed = ElementTree.fromstring(drawn)
    assert parsed.get("aria-label") == 'a"b<' and parsed[0].text == '<b> & "c"'
    assert ElementTree.fromstring(text(1, 2, "<i>")).text == "<i>"


def test_numbers_are_short() -> None:
    assert [number(v) for v in (1.0, 0.125, 1 / 3, 7, "a")] == ["1", "0.12", "0.33", "7", "a"]


def test_series_are_told_apart_without_and_with_colours() -> None:
    """By the shape and the dash alone up to six, and no two look the same up to 36."""
    shapes, dashes = ({look(i)[part] for i in range(6)} for part in (2, 1))
    assert len(shapes) == len(dashes) == 6
    assert len({look(index) for index in range(36)}) == 36


@pytest.mark.parametrize(
    ("index", "drawn"),
    [(0, "<circle "), (1, "<polygon "), (5, "<path "), (6, "<polygon ")],
)
def test_marks_have_the_shape_of_their_series(index: int, drawn: str) -> None:
    assert Style(index).mark((0.0, 0.0)).startswith(drawn)
    assert Style(index, filled=False).css.endswith(" hollow")


def test_names_do_not_cover_each_other_and_stay_inside() -> None:
    area = Axis(0, 1, 0, 300), Axis(0, 1, 100, 0)
    points = [((150.0, 50.0), "one"), ((152.0, 52.0), "two"), ((299.0, 50.0), "at the edge")]
    drawn = ElementTree.fromstring(f"<g>{names_of(points, *area)}</g>")
    assert [item.text for item in drawn] == ["one", "two", "at the edge"]
    assert float(drawn[2].get("x", "")) < 290 - 11 * 0.6 * 11
    places = [(float(i.get("x", "")), float(i.get("y", ""))) for i in drawn]
    assert len({y for _, y in places}) > 1 or abs(places[0][0] - places[1][0]) > 20


def test_a_name_without_room_is_left_out() -> None:
    area = Axis(0, 1, 0, 60), Axis(0, 1, 20, 0)
    assert names_of([((30.0, 10.0), "far too long to be placed")], *area) == ""


def parsed(svg: str) -> ElementTree.Element:
    """A drawing as the browser reads it, every text inside its box."""
    root = ElementTree.fromstring(svg)
    width, height = map(float, root.get("viewBox", "").split()[2:])
    for item in root.iter("text"):
        if item.get("transform") is None:
            assert -1 <= float(item.get("x", "0")) <= width
            assert -1 <= float(item.get("y", "0")) <= height
    return root


def test_a_scatter_draws_all_it_is_given() -> None:
    dots = [
        Dot(4, 30, (29.0, 31.0), "hover a", "int8", Style(0), "a", ringed=True),
        Dot(8, 32, None, "hover b", "float", Style(1, False), "b"),
    ]
    root = parsed(Scatter("t", "ms", "AP", dots, [(4, 30), (8, 32)]).draw())
    assert {item.text for item in root.iter("title")} == {"hover a", "hover b"}
    assert {"a", "b", "int8", "float", "Pareto line"} <= {item.text for item in root.iter("text")}
    assert len([i for i in root.iter("circle") if i.get("class") == "ring"]) == 1


def test_the_pareto_line_has_corners_and_no_slopes() -> None:
    dots = [Dot(x, y, None, "", "s", Style(0)) for x, y in ((1, 1), (2, 3))]
    root = parsed(Scatter("t", "x", "y", dots, [(1, 1), (2, 3)]).draw())
    lines = [i.get("points", "").split() for i in root.iter("polyline")]
    corners = [tuple(map(float, place.split(","))) for place in lines[-1]]
    assert len(corners) == 3
    assert corners[1][1] == corners[0][1] and corners[1][0] == corners[2][0]


def test_bars_that_may_be_nothing_are_pale() -> None:
    bars = [Bar("sure", 0.2, (0.1, 0.3), "a"), Bar("unsure", 0.1, (-0.1, 0.2), "b")]
    classes = [i.get("class") for i in parsed(horizontal_bars("t", bars, "x")).iter("rect")]
    assert [c for c in classes if c != "catch"] == ["c1 solid", "c1 solid faint"]


def test_a_value_that_is_no_number_is_no_point() -> None:
    series = Series("s", [(0, 1.0), (1, math.nan), (2, 3.0)], ["a", "b", "c"], Style(0))
    root = parsed(Lines("t", "x", "y", [series]).draw())
    assert [item.text for item in root.iter("title")] == ["a", "c"]


def test_a_drawing_says_what_it_is() -> None:
    root = ElementTree.fromstring(drawing(10, 20, "a chart"))
    assert (root.get("role"), root.get("aria-label")) == ("img", "a chart")
