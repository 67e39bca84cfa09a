"""Run under torchrun by test_ranks.py: work of two processes; a piece fails in the second."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from yoloq.base.errors import DataError
from yoloq.base.ranks import Share, by_all, in_turn, launched, leading, serve


def squares(share: Share, numbers: range, times: int) -> Iterator[list[int]]:
    """Those of a share, again and again."""
    for time in range(times):
        share.done(len(share.of(numbers)))
        yield [time + number**2 for number in share.of(numbers)]


def told(share: Share) -> Iterator[list[str]]:
    """What the processes tell each other."""
    yield share.tell("first" if share.rank == 0 else "second")


def failing(share: Share) -> Iterator[None]:
    """Fails in the second process."""
    if share.rank:
        raise DataError("b.png: cannot be read")
    yield None


if __name__ == "__main__":
    if launched().rank:
        sys.exit(serve().exit_code)
    done: list[int] = []
    with leading():
        steps = [in_turn(step) for step in by_all(squares, range(5), 2, done=done.append)]
        [heard] = by_all(told)
        try:
            list(by_all(failing))
        except DataError as raised:
            error = str(raised)
    found = {"steps": steps, "done": done, "heard": heard, "error": error}
    Path(sys.argv[1]).write_text(json.dumps(found))
