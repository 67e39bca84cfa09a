"""Scales moved between layers before calibration: the same function with other numbers inside it.

Where an activation has f(s x) = s f(x) for s > 0, as ReLU has, the channels of a tensor may be
multiplied by any factors, if the convolutions that make it are multiplied too and those that read
it are divided. A move is a file of this folder whose `factors(net, channels, reads)` says by what.
To add one: write the file, add a row to `MOVES`.
"""

from collections.abc import Iterable

MOVES = {  # name of the file -> the fewest images it can do with; in the order they are applied
    "equalize": 0,
    "smooth": 1,
}


def moves_of(names: Iterable[str]) -> tuple[str, ...]:
    """Those of the names of `--refine` that are moves, in the order in which they are applied."""
    given = set(names)
    return tuple(name for name in MOVES if name in given)
