"""What `--bits` and `--budget` may say."""

import pytest

from yoloq.quant.mixed.budget import Budget, budget_of, read_budget
from yoloq.quant.mixed.width import EDGE, FLOAT, Width, counted, read_widths, width_of


@pytest.mark.parametrize(
    ("word", "width"),
    [
        ("4", Width(4, 8)),
        ("8", Width(8, 8)),
        ("16", FLOAT),
        ("4x4", Width(4, 4)),
        ("3x16", Width(3, 16)),
        ("2x2", Width(2, 2)),
    ],
)
def test_a_word_is_a_width(word: str, width: Width) -> None:
    assert width_of(word) == width
    assert width_of(str(width)) == width


def test_float_alone_is_not_integers() -> None:
    assert [width.quantized for width in (Width(4, 16), EDGE, FLOAT)] == [True, True, False]


@pytest.mark.parametrize("word", ["0", "1", "9", "16x8", "16x16", "4x0", "4x", "x4", "-4", "4.0"])
def test_other_widths_are_refused_by_name(word: str) -> None:
    with pytest.raises(ValueError) as caught:
        read_widths(f"4,{word}")
    assert str(caught.value).startswith(f"{word!r} is not one of 2 to 8 bits of weights, 16 for")


def test_widths_come_once_and_the_narrowest_first() -> None:
    assert read_widths("16, 8 4x8,4 4x4") == ("4x4", "4x8", "8x8", "16")


def test_layers_are_counted_by_width() -> None:
    assert counted([FLOAT, Width(4, 8), EDGE, Width(4, 8)]) == "2 in 4x8, 1 in 8x8, 1 in 16"


@pytest.mark.parametrize(
    ("text", "kind", "limit"),
    [
        ("size=1.2MB", "size", 1_200_000.0),
        ("size=900kB", "size", 900_000.0),
        ("size=.5 MB", "size", 500_000.0),
        ("bops=40G", "bops", 40e9),
        ("bops=1000000", "bops", 1e6),
        ("latency=12.5ms", "latency", 12.5),
    ],
)
def test_a_budget(text: str, kind: str, limit: float) -> None:
    assert read_budget(text) == text
    assert budget_of(text) == Budget(kind, pytest.approx(limit), text)


@pytest.mark.parametrize(
    "text",
    ["size", "size=MB", "size=1.2", "size=-1MB", "size=1.2mb", "watts=3", "latency=3", "3MB"],
)
def test_what_is_no_budget(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be size=1\.2MB, bops=40G or latency=12ms"):
        budget_of(text)


def test_a_budget_of_nothing() -> None:
    with pytest.raises(ValueError, match="above 0"):
        budget_of("size=0MB")


@pytest.mark.parametrize(
    ("asked", "amount", "text"),
    [
        ("size=1MB", 1_020_001, "1.03 MB"),
        ("size=1MB", 1_020_000, "1.02 MB"),
        ("size=1MB", 60_210, "0.0603 MB"),
        ("size=1MB", 123_456_789, "124 MB"),
        ("bops=1G", 41.7e9, "41.7 G"),
        ("latency=1ms", 5.0, "5.00 ms"),
    ],
)
def test_an_amount_is_rounded_up_so_that_a_budget_of_it_is_met(
    asked: str, amount: float, text: str
) -> None:
    budget = budget_of(asked)
    assert budget.text(amount) == text
    assert budget_of(f"{budget.kind}={text}").limit >= amount
