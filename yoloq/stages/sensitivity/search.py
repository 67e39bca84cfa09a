"""The search for the fastest policy within an accuracy target: greedy, checked, backed off."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

Floats = frozenset[str]
Measure = Callable[[Floats], float]


@dataclass(frozen=True)
class Choice:
    """A layer that can be kept in float: what that gains in accuracy and costs in time.

    `gain` is a fraction; `lost_ms` is the engine's milliseconds, None where they are not known;
    0 or less where the engine is as fast in float.
    """

    name: str
    gain: float
    lost_ms: float | None = None

    @property
    def worth(self) -> float:
        """Gain per millisecond lost; the gain itself where no time is known."""
        if self.lost_ms is None:
            return self.gain
        return self.gain / max(self.lost_ms, LEAST_MS)


LEAST_MS = 0.01  # an engine's profile resolves no less; what costs nothing is worth very much


@dataclass(frozen=True)
class Found:
    """The result of a search.

    `floats` are the layers to keep in float, in the order in which they were chosen; `drop` was
    measured with all of them in float; `reached` says whether it is within the target. `tried`
    has every measured set and its drop.
    """

    floats: tuple[str, ...]
    drop: float
    reached: bool
    tried: list[tuple[Floats, float]] = field(default_factory=list)


def ranked(choices: Sequence[Choice]) -> list[Choice]:
    """Most worth first; equal ones in their order."""
    return sorted(choices, key=lambda choice: -choice.worth)


def find_policy(choices: Sequence[Choice], measure: Measure, max_drop: float, most: int) -> Found:
    """Choose the layers to keep in float so that the drop is within a target at the least time.

    Layers are added by gain per millisecond until the sum of their gains promises the target; then
    the whole set is measured, since gains do not add up, and more are added while it misses. At
    the end each chosen layer, the least worth first, goes back to int8 if the target still holds.

    Args:
        choices: the layers that were swept.
        measure: drop of accuracy with these layers in float and all others in int8.
        max_drop: the target; the drop is to be at most this.
        most: layers that may be kept in float.
    """
    search = _Search(measure, max_drop)
    order = [choice for choice in ranked(choices) if choice.gain > 0][:most]
    chosen: list[Choice] = []
    drop = search(chosen)
    promised = drop
    for choice in order:
        if drop <= max_drop:
            break
        chosen.append(choice)
        promised -= choice.gain
        if promised <= max_drop or choice is order[-1]:
            drop = promised = search(chosen)
    if drop <= max_drop:
        chosen, drop = _backed_off(chosen, drop, search)
    return Found(tuple(c.name for c in chosen), drop, drop <= max_drop, search.tried)


def _backed_off(chosen: list[Choice], drop: float, search: "_Search") -> tuple[list[Choice], float]:
    """Without the layers that are not needed."""
    for choice in ranked(chosen)[::-1]:
        fewer = [other for other in chosen if other is not choice]
        if (less := search(fewer)) <= search.max_drop:
            chosen, drop = fewer, less
    return chosen, drop


class _Search:
    """Measures a set once."""

    def __init__(self, measure: Measure, max_drop: float) -> None:
        self.measure, self.max_drop = measure, max_drop
        self.tried: list[tuple[Floats, float]] = []

    def __call__(self, chosen: Sequence[Choice]) -> float:
        floats = frozenset(choice.name for choice in chosen)
        known = next((drop for names, drop in self.tried if names == floats), None)
        if known is None:
            known = self.measure(floats)
            self.tried.append((floats, known))
        return known
