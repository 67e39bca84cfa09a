"""From values to pixels, and where ticks stand."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

STEPS = (1, 2, 5, 10)
MARGIN = 0.06  # of the range, left free at both ends


@dataclass(frozen=True)
class Axis:
    """Values from `low` to `high` on pixels from `start` to `end`, linear or logarithmic."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """Pixel of a value; one beyond the ends is taken as the end, and so is NaN."""
        low, high = self._inner(self.low), self._inner(self.high)
        share = (self._inner(value) - low) / (high - low)
        share = min(max(share, 0.0), 1.0) if not math.isnan(share) else 0.0
        return self.start + share * (self.end - self.start)

    def _inner(self, value: float) -> float:
        return math.log10(max(value, 1e-300)) if self.log else value

    def ticks(self, most: int = 6) -> list[float]:
        """Round values between the ends, at most so many and one more."""
        if self.log:
            return self._powers(most)
        raw = (self.high - self.low) / most
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(power * each for each in STEPS if power * each >= raw * 0.999)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [index * step for index in range(first, last + 1)]

    def _powers(self, most: int) -> list[float]:
        first = math.ceil(math.log10(self.low) - 1e-9)
        last = math.floor(math.log10(self.high) + 1e-9)
        each = max(1, -(-(last - first + 1) // most))
        found = [10.0**power for power in range(first, last + 1, each)]
        if len(found) > 2:
            return found
        between = [step * 10.0**power for power in range(first - 1, last + 1) for step in STEPS[:3]]
        within = [value for value in between if self.low <= value <= self.high]
        return within if len(within) > 1 else replace(self, log=False).ticks(most)


def spanning(
    values: Iterable[float], start: float, end: float, log: bool = False, zero: bool = False
) -> Axis:
    """An axis on which all finite values have some room.

    Args:
        zero: it begins or ends at 0 at the latest.
    """
    found = [value for value in values if math.isfinite(value) and (value > 0 or not log)]
    found = [*found, 0.0] if zero and not log else found or [1.0 if log else 0.0]
    low, high = min(found), max(found)
    if log:
        room = (high / low) ** MARGIN if high > low else 2.0
        return Axis(low / room, high * room, start, end, log)
    room = (high - low) * MARGIN or abs(high) * MARGIN or 1.0
    at_zero_low, at_zero_high = zero and low == 0, zero and high == 0
    low, high = low - (0 if at_zero_low else room), high + (0 if at_zero_high else room)
    return Axis(low, high if high > low else low + 1, start, end, log)


def short(value: float) -> str:
    """A tick's label."""
    if value and (abs(value) >= 1e5 or abs(value) < 1e-3):
        digits, power = f"{value:.2e}".split("e")
        return f"{float(digits):g}e{int(power)}"
    return f"{value:.6g}"
