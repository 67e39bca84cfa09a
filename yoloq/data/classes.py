"""Class names of a data set held against those of a model, or of a file of labels."""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from yoloq.geometry.detections import Ints

ONE = ("item",)  # how YOLOv5 calls the class of a model that was trained with --single-cls
SHOWN = 3  # pairs of names that a message lists


@dataclass(frozen=True)
class Numbering:
    """What the class numbers in labels mean, where they are not those of the data set's names.

    Attributes:
        names: as the labels number them; None: whatever a label says, it is class 0, and so are
            all boxes found.
        to: the class that each number stands for.
        remark: what the user has to know of it; empty: nothing.
    """

    names: tuple[str, ...] | None
    to: tuple[int, ...] = ()
    remark: str = ""

    def classes(self, numbers: Ints) -> Ints:
        """Classes (n,) of the labels' numbers (n,)."""
        if self.names is None:
            return np.zeros_like(numbers)
        return np.asarray(self.to, dtype=np.int64)[numbers]


ALL_ONE = Numbering(names=None)


def numbering(names: tuple[str, ...], wanted: tuple[str, ...], model: str) -> Numbering | None:
    """How labels that `names` number become classes of a model that has as many; None: as they are.

    Classes go by name. Those without a name in common take what is left, in order, and that is
    remarked, unless one of the two sides has no names to compare.

    Args:
        wanted: the model's names.
        model: what the remark calls it.
    """
    found = by_name(names, wanted)
    if None in found:
        found = by_name(_given(names, "a"), _given(wanted, "b"))
    left = iter(sorted({*range(len(wanted))} - {*found}))
    to = tuple(next(left) if place is None else place for place in found)
    differing = [
        f"{number} '{names[number]}' is {place} '{wanted[place]}' there"
        for number, place in enumerate(to)
        if found[number] is None
        and not _is_placeholder(names, number)
        and not _is_placeholder(wanted, place)
    ]
    if to == tuple(range(len(to))) and not differing:
        return None
    return Numbering(names, to, _remark(differing, model))


def subset(names: tuple[str, ...], wanted: tuple[str, ...], model: str) -> Numbering:
    """How labels that `names` number become classes of a model that has more, each by its name.

    Raises:
        KeyError: a name that the model does not have.
    """
    to = tuple(place for place in by_name(names, wanted) if place is not None)
    if len(to) < len(names):
        raise KeyError(names[by_name(names, wanted).index(None)])
    remark = f"has {len(names)} of the {len(wanted)} classes of {model}: labels are mapped by name"
    return Numbering(names, to, remark)


def by_name(names: Sequence[str], wanted: Sequence[str]) -> list[int | None]:
    """Position among the wanted names of each name, no position twice; None: it is not there.

    Names are the same exactly, else but for case, blanks and how accents are encoded, where that
    leaves no choice on either side.
    """
    exact = _shared(names, wanted)
    alike = _shared([_folded(name) for name in names], [_folded(name) for name in wanted])
    return [a if b is None else b for a, b in zip(alike, exact, strict=True)]


def repeated(names: Sequence[str]) -> str | None:
    """The first name that occurs twice."""
    return next((name for name, count in Counter(names).items() if count > 1), None)


def _shared(names: Sequence[str], wanted: Sequence[str]) -> list[int | None]:
    """Position of each name that both have just once."""
    ours, theirs = Counter(names), Counter(wanted)
    position = {name: index for index, name in enumerate(wanted)}
    return [position[name] if ours[name] == theirs[name] == 1 else None for name in names]


def _folded(name: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", name.casefold()).split())


def _given(names: Sequence[str], side: str) -> list[str]:
    """Names, with what stands for a missing one made unlike all names of the other side."""
    return [f"{side}\0{i}" if _is_placeholder(names, i) else name for i, name in enumerate(names)]


def _is_placeholder(names: Sequence[str], number: int) -> bool:
    """Whether a name is what a tool writes where nobody named the class.

    YOLOv5 and the ultralytics package number them; a model trained with `--single-cls` has ONE.
    """
    return names[number] in (f"{number}", f"class{number}", f"class_{number}") or names == ONE


def _remark(differing: Sequence[str], model: str) -> str:
    if not differing:
        return f"classes are in another order than in {model}: labels are mapped by name"
    more = f" and {len(differing) - SHOWN} more" * (len(differing) > SHOWN)
    return (
        f"class names differ from those of {model}: {', '.join(differing[:SHOWN])}{more}; "
        "mend `names` where these are not the same things"
    )
