"""A budget: what is counted, how much of it there is, and how that is written."""

import math
import re
from dataclasses import dataclass

UNITS = {  # by what is counted; the last of each is the one that figures are shown in
    "size": {"B": 1.0, "kB": 1e3, "GB": 1e9, "MB": 1e6},
    "bops": {"": 1.0, "M": 1e6, "T": 1e12, "G": 1e9},
    "latency": {"ms": 1.0},
}
WANTED = "must be size=1.2MB, bops=40G or latency=12ms"
FORM = re.compile(r"(?P<kind>[a-z]+)=(?P<number>\d+(\.\d*)?|\.\d+)\s*(?P<unit>[A-Za-z]*)")


@dataclass(frozen=True)
class Budget:
    """At most `limit` of `kind`: bytes, bit operations or milliseconds of an image.

    `asked` is how it was written.
    """

    kind: str
    limit: float
    asked: str

    @property
    def unit(self) -> str:
        """What its figures are shown in."""
        return list(UNITS[self.kind])[-1]

    def shown(self, amount: float) -> float:
        """An amount in that unit."""
        return amount / UNITS[self.kind][self.unit]

    def text(self, amount: float) -> str:
        """An amount with its unit, rounded up: a budget of what is printed is met."""
        value = self.shown(amount)
        digits = 2 - math.floor(math.log10(value)) if value > 0 else 0
        rounded = math.ceil(value * 10.0**digits * (1 - 1e-12)) / 10.0**digits
        return f"{rounded:.{max(digits, 0)}f} {self.unit}".strip()


def read_budget(text: str) -> str:
    """Check a budget's form; the text itself is what an option holds.

    Raises:
        ValueError: it is none.
    """
    budget_of(text)
    return text


def budget_of(text: str) -> Budget:
    """The budget that a text says.

    Raises:
        ValueError: it says none.
    """
    found = FORM.fullmatch(text.strip())
    units = UNITS.get(found["kind"], {}) if found else {}
    if found is None or found["unit"] not in units:
        raise ValueError(WANTED)
    limit = float(found["number"]) * units[found["unit"]]
    if not limit > 0:
        raise ValueError(f"{WANTED}, and above 0")
    return Budget(found["kind"], limit, text.strip())
