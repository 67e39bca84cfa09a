"""The integer program against trying everything."""

import itertools
from random import Random

import pytest

from yoloq.quant.mixed.allot import Choice, Option, Options, allot, cheapest, summed
from yoloq.quant.mixed.width import EDGE, FLOAT, Width

W4A8, W4A4 = Width(4, 8), Width(4, 4)
ONE = {
    "a": [Option(W4A8, 5.0, 4.0), Option(EDGE, 1.0, 8.0), Option(FLOAT, 0.0, 16.0)],
    "b": [Option(W4A8, 2.0, 4.0), Option(EDGE, 1.0, 8.0), Option(FLOAT, 0.0, 16.0)],
}
APART = {"a": "a", "b": "b"}


def agree(choice: Choice, groups: dict[str, str]) -> bool:
    """Whether the layers of each group that are in integers have one number of bits."""
    found: dict[str, set[int]] = {}
    for name, width in choice.items():
        if width != FLOAT:
            found.setdefault(groups[name], set()).add(width.activation)
    return all(len(bits) == 1 for bits in found.values())


def every(options: Options, groups: dict[str, str]) -> list[Choice]:
    widths = [[option.width for option in found] for found in options.values()]
    choices = (dict(zip(options, each, strict=True)) for each in itertools.product(*widths))
    return [choice for choice in choices if agree(choice, groups)]


@pytest.mark.parametrize(
    ("limit", "widths"),
    [
        pytest.param(8.0, (W4A8, W4A8), id="just enough for the narrowest"),
        pytest.param(11.9, (W4A8, W4A8), id="not enough for more"),
        pytest.param(12.0, (EDGE, W4A8), id="exactly enough for the worst"),
        pytest.param(20.0, (FLOAT, W4A8), id="2 lost, as with both in 8 bits and less left"),
        pytest.param(1e9, (FLOAT, FLOAT), id="everything"),
    ],
)
def test_by_hand(limit: float, widths: tuple[Width, Width]) -> None:
    found = allot(ONE, APART, limit)
    assert found is not None
    assert summed(ONE, found, "loss") == summed(ONE, dict(zip("ab", widths, strict=True)), "loss")
    assert summed(ONE, found, "cost") <= limit


def test_nothing_is_within() -> None:
    assert allot(ONE, APART, 7.999) is None
    assert cheapest(ONE, APART) == {"a": W4A8, "b": W4A8}


def test_layers_that_share_a_quantizer_have_the_same_bits_of_activations() -> None:
    options = {
        "a": [Option(W4A4, 1.0, 2.0), Option(EDGE, 0.5, 8.0)],
        "b": [Option(W4A8, 1.0, 4.0), Option(EDGE, 0.5, 8.0)],
    }
    assert cheapest(options, APART) == {"a": W4A4, "b": W4A8}
    assert cheapest(options, {"a": "a", "b": "a"}) == {"a": EDGE, "b": W4A8}
    options["b"].append(Option(FLOAT, 0.0, 8.5))
    found = allot(options, {"a": "a", "b": "a"}, 11.0)  # float reads what nothing quantized
    assert found == {"a": W4A4, "b": FLOAT}


@pytest.mark.parametrize("seed", range(40))
def test_as_good_as_trying_everything(seed: int) -> None:
    random = Random(seed)
    widths = [W4A4, W4A8, EDGE]
    options = {
        name: [
            Option(width, random.random() * 10 ** random.randint(-6, 0), random.randint(1, 20))
            for width in [*random.sample(widths, random.randint(1, 3)), FLOAT]
        ]
        for name in "abcde"
    }
    groups = {name: random.choice("xy") for name in options}
    choices = every(options, groups)
    limit = random.choice(sorted(summed(options, choice, "cost") for choice in choices))
    within = [c for c in choices if summed(options, c, "cost") <= limit]
    found = allot(options, groups, limit)
    assert found is not None and found in within
    best = min(summed(options, choice, "loss") for choice in within)
    assert summed(options, found, "loss") == pytest.approx(best, rel=1e-9, abs=1e-9)
    least = min(summed(options, choice, "cost") for choice in choices)
    assert summed(options, cheapest(options, groups), "cost") == least
