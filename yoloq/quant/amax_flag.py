"""Ranges as a user writes them on the command line: `model.8.cv1=4.2`."""

import math
from collections.abc import Sequence

from yoloq.base.errors import PolicyError


def parse_amax(texts: Sequence[str], flag: str = "--amax") -> dict[str, float]:
    """Name -> amax of texts like `model.8.cv1=4.2`; errors name the flag.

    Raises:
        PolicyError: a text has no name, or no number above 0.
    """
    chosen = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        amax = _number(number)
        if not name or not 0 < amax < math.inf:
            want = "a layer and a number above 0, as in model.8.cv1=4.2"
            raise PolicyError(f"{flag} {text}: must be {want}")
        chosen[name] = amax
    return chosen


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
