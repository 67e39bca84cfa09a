"""The bits of a layer: of its weights and of what it reads."""

from collections.abc import Iterable
from dataclasses import dataclass

from yoloq.quant.spec import BITS

USUAL = 8  # bits of activations where only those of weights are named
HALF = 16  # bits of a weight in float, as engines keep it
WANTED = "2 to 8 bits of weights, 16 for float, or weights x activations such as 4x4"


@dataclass(frozen=True, order=True)
class Width:
    """Bits of weights and of activations; 16 of both is float, which nothing quantizes."""

    weight: int
    activation: int

    @property
    def quantized(self) -> bool:
        """Whether it is integers."""
        return self.weight < HALF

    def __str__(self) -> str:
        return f"{self.weight}x{self.activation}" if self.quantized else str(HALF)


FLOAT = Width(HALF, HALF)
EDGE = Width(8, USUAL)  # of the first layer and of the head, where they are integers


def read_widths(text: str) -> tuple[str, ...]:
    """The widths in a text such as `4,8,16` or `4x4 8`, each once, the narrowest first.

    Raises:
        ValueError: one is none that can be simulated; says which.
    """
    words = text.replace(",", " ").split()
    return tuple(map(str, sorted({width_of(word) for word in words})))


def width_of(word: str) -> Width:
    """The width that a word names; bits of weights alone go with 8 bits of activations.

    Raises:
        ValueError: it is none that can be simulated.
    """
    if word == str(HALF):
        return FLOAT
    weight, cross, activation = word.partition("x")
    if not (weight.isdecimal() and (activation.isdecimal() or not cross)):
        raise ValueError(f"{word!r} is not one of {WANTED}")
    width = Width(int(weight), int(activation) if cross else USUAL)
    if not (width.weight in BITS and width.quantized and width.activation in BITS):
        raise ValueError(f"{word!r} is not one of {WANTED}")
    return width


def counted(widths: Iterable[Width]) -> str:
    """How many layers have each width, the narrowest first: `40 in 4x8, 2 in 16`."""
    found = list(widths)
    return ", ".join(f"{found.count(width)} in {width}" for width in sorted(set(found)))
