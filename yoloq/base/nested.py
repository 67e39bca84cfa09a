"""How large nested data is for those who walk through it: parts used twice count twice.

Lists of one list, nested forty times, are a hundred bytes in a file and take for ever to print.
"""

from collections.abc import Callable, Collection
from typing import Any

MOST = 1 << 62  # sums stop here: a thousand doublings would be a number of a thousand bits


def reached(
    content: Any,
    parts: Callable[[Any], Collection[Any]],
    size: Callable[[Any], int] = lambda value: 1,
) -> int:
    """Sum over all parts, each as often as it is reached from the top; a circle counts once.

    Args:
        parts: what is directly in something; nothing of what holds no other.
        size: of a part alone; by default they are counted.
    """
    below: dict[int, int] = {}  # by id, which stays as long as `content` holds the part
    opened: set[int] = set()
    waiting = [content]
    while waiting:
        value = waiting[-1]
        inner = parts(value)
        if id(value) not in opened:
            opened.add(id(value))
            waiting += [part for part in inner if id(part) not in opened and parts(part)]
            continue
        waiting.pop()
        known = (below[id(part)] if id(part) in below else size(part) for part in inner)
        below[id(value)] = min(MOST, size(value) + sum(known))
    return below[id(content)]


def plain_parts(value: Any) -> Collection[Any]:
    """What is directly in a list, a tuple, a set or a dict (its values)."""
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list | tuple | set | frozenset) else ()
