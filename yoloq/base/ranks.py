"""The processes that `torchrun` started, at the service of the first one.

The first runs a stage as one process does. Work that is done image by image it gives to all, itself
included: each does its share and hands over what it found. The others neither write files of a run
nor speak.
"""

import contextlib
import os
import pickle
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

from yoloq.base.errors import RunError

T = TypeVar("T")

NO_MORE = b""  # work, where there is none
PATIENCE = timedelta(days=1)  # others wait while the first process does what is done once
LOST = (
    "another process of the run was lost, or all were told to end; finished parts are kept, start "
    "again to go on"
)


def _nothing(count: int) -> None:
    """What the others say of their progress."""


@dataclass(frozen=True)
class Share:
    """Which part of the work is this process's; `done` is told of each image of it."""

    rank: int = 0
    world: int = 1
    done: Callable[[int], None] = _nothing

    def of(self, batches: Sequence[T]) -> Sequence[T]:
        """This process's part: every `world`-th batch, whole.

        Whole, since the last bits of what a network gives depend on how many images go through it
        at once.
        """
        return batches[self.rank :: self.world]

    def tell(self, item: T) -> list[T]:
        """What each process has, by rank, in all of them; all have to ask."""
        if self.world == 1:
            return [item]
        from torch import distributed

        items: list[Any] = [None] * self.world
        with _lost_is_an_error():
            distributed.all_gather_object(items, item)
        return items


@dataclass(frozen=True)
class Served:
    """How a process ended that served the first one."""

    exit_code: int


@dataclass(frozen=True)
class _Failure:
    error: Exception


class _Ended(KeyboardInterrupt):
    """SIGTERM, by which `torchrun` ends those that are left."""


WHOLE = Share()
_joined = [WHOLE]  # the last one counts


def launched() -> Share:
    """Which of the processes that `torchrun` started this is; the only one where it did not."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    return Share(int(os.environ.get("RANK", "0")), world) if world > 1 else WHOLE


@contextlib.contextmanager
def process_group(backend: str) -> Iterator[None]:
    """Join the group that `torchrun` describes in the environment, for the length of a block."""
    from torch import distributed

    distributed.init_process_group(backend, timeout=PATIENCE)
    try:
        yield
    finally:
        distributed.destroy_process_group()


@contextlib.contextmanager
def leading() -> Iterator[None]:
    """Let `by_all` reach the others, which `serve`, until the block ends.

    Raises:
        RunError: one of them was lost.
    """
    own = launched()
    if own.world == 1:
        yield
        return
    _see_one_gpu()
    with _ended_is_an_error(), process_group("gloo"):
        _joined.append(own)
        try:
            yield
            _broadcast(NO_MORE)
        finally:
            _joined.pop()


def serve() -> Served:
    """Do shares of the first process's work until it has no more."""
    own = launched()
    _see_one_gpu()
    usual = signal.signal(signal.SIGTERM, signal.SIG_DFL)  # Python's waits for those who never come
    try:
        with process_group("gloo"):
            signal.signal(signal.SIGTERM, usual)
            while work := _broadcast(NO_MORE):
                for item in _caught(work, own):
                    _gather(item, own)
    except (RunError, RuntimeError, KeyboardInterrupt):  # the first one ended, and said why
        return Served(2)
    return Served(0)


def by_all(
    work: Callable[..., Iterator[T]], *given: Any, done: Callable[[int], None] = _nothing
) -> Iterator[list[T]]:
    """What each process yields of a piece of work, step by step: lists in the order of the ranks.

    Args:
        work: called with a `Share` and `given` in every process; it yields as often in each. Where
            there are several, it and they are pickled.
        done: is told of images; the others are taken to be as far as the first.

    Raises:
        RunError: a process was lost.
        What the work raises in any of them.
    """
    own = _joined[-1]
    if own.world == 1:
        for item in work(replace(WHOLE, done=done), *given):
            yield [item]
        return
    _broadcast(pickle.dumps((work, given)))
    for item in work(replace(own, done=lambda count: done(count * own.world)), *given):
        items = _gather(item, own)
        for other in items:
            if isinstance(other, _Failure):
                raise other.error
        yield items


def in_turn(shares: Sequence[Sequence[T]]) -> list[T]:
    """What was found of batches, by rank as `Share.of` gave them out, in the order of the whole."""
    longest = max(map(len, shares))
    return [items[turn] for turn in range(longest) for items in shares if turn < len(items)]


def _caught(pickled: bytes, own: Share) -> Iterator[Any]:
    """What work yields; an error of its own comes last."""
    try:
        work, given = pickle.loads(pickled)
        yield from work(own, *given)
    except Exception as error:
        error.add_note(f"in process {own.rank}:\n{traceback.format_exc()}")
        yield _Failure(error)


def _broadcast(item: bytes) -> bytes:
    """The first process's bytes, in all."""
    from torch import distributed

    box = [item]
    with _lost_is_an_error():
        distributed.broadcast_object_list(box, src=0)
    return box[0]


def _gather(item: Any, own: Share) -> list[Any]:
    """All items in the first process, nothing in the others."""
    from torch import distributed

    items: list[Any] = [None] * own.world if own.rank == 0 else []
    with _lost_is_an_error():
        distributed.gather_object(item, items or None, dst=0)
    return items


@contextlib.contextmanager
def _lost_is_an_error() -> Iterator[None]:
    """Turn what gloo raises where a process is gone into an error of a user."""
    try:
        yield
    except RuntimeError:
        raise RunError(LOST) from None


@contextlib.contextmanager
def _ended_is_an_error() -> Iterator[None]:
    """The same where `torchrun` was faster to end this process than gloo to miss the other."""

    def end(*_: Any) -> None:
        raise _Ended

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except BaseException as error:
        before = signal.SIG_IGN  # it ends anyway, and says why
        if isinstance(error, _Ended):
            raise RunError(LOST) from None
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _see_one_gpu() -> None:
    """Leave each process of a machine one GPU; torch counts them when it is first used."""
    local = int(os.environ.get("LOCAL_RANK", "0"))
    seen = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    os.environ["CUDA_VISIBLE_DEVICES"] = seen[local % len(seen)] if seen else str(local)
