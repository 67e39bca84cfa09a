"""The pickle machine itself: Python's own, with every step counted and every name looked up.

Written in Python, not C: there a file of ten bytes that stores something at place 2^30 of the memo
takes gigabytes, and nothing can be counted. A checkpoint has some ten thousand steps.
"""

import pickle
import struct
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import IO, Any

from torch import Tensor

from yoloq.models.unpickle.allowance import MOST_NAMES, Allowance
from yoloq.models.unpickle.arrays import Array, Dtype
from yoloq.models.unpickle.calls import Call, check_key
from yoloq.models.unpickle.stub import RefusedError, Stub, TooMuchError

Resolve = Callable[[str, str], Any]
Step = Callable[[Any], None]
Python: Any = pickle._Unpickler  # type: ignore[attr-defined]
SIXTY_FOUR = 8  # bytes of an integer


class Bounded:
    """A stream that never asks for more bytes than there are, whatever a file says."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self.stream, self.size = stream, size
        self.readline = stream.readline

    def read(self, count: int) -> bytes:
        return self.stream.read(min(count, self.size))


class Unpickler(Python):
    """Runs a pickle within an allowance; names are what `resolve` says."""

    def __init__(
        self,
        stream: Bounded,
        allowance: Allowance,
        resolve: Resolve,
        persistent: Callable[[Any], Any] | None = None,
    ) -> None:
        super().__init__(stream, encoding="utf-8")
        self.allowance, self.resolve = allowance, resolve
        self.names: dict[tuple[str, str], Any] = {}
        self.dispatch = _Counted(STEPS, allowance)
        if persistent is not None:
            self.persistent_load = persistent

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.names:
            if len(self.names) >= MOST_NAMES:
                raise TooMuchError("names")
            self.names[module, name] = self.resolve(module, name)
        return self.names[module, name]

    def charge(self, value: Any, depth: int = 2) -> None:
        """Pay for what a call may copy."""
        if isinstance(value, str | bytes | bytearray):
            self.allowance.take_bytes(len(value))
        elif isinstance(value, list | tuple | dict | set | frozenset):
            self.allowance.take_items(len(value))
            for each in value if depth else ():
                self.charge(each, depth - 1)


class _Counted(dict[int, Step]):
    """The steps by opcode; each that is taken is paid for."""

    def __init__(self, steps: Mapping[int, Step], allowance: Allowance) -> None:
        super().__init__(steps)
        self.allowance = allowance

    def __getitem__(self, code: int) -> Step:
        self.allowance.take_items(1)
        return super().__getitem__(code)

    def __missing__(self, code: int) -> Step:
        raise pickle.UnpicklingError(f"{bytes([code])!r} is no step of a pickle")


def _made(step: Step) -> Step:
    """A step that puts a text or bytes on the stack."""

    def work(machine: Unpickler) -> None:
        step(machine)
        machine.allowance.take_bytes(sys.getsizeof(machine.stack[-1]))

    return work


def _called(step: Step) -> Step:
    """A step that hands what is on top of the stack to a function or an object."""

    def work(machine: Unpickler) -> None:
        given = machine.stack[-1]
        machine.charge(given)
        step(machine)
        made = machine.stack[-1]
        again = isinstance(given, tuple) and bool(given) and isinstance(given[0], Tensor)
        if isinstance(made, Tensor) and not again:
            machine.allowance.take_tensor(made.numel() * made.itemsize)

    return work


def _instantiated(step: Step) -> Step:
    """A step that hands all since the mark to a function."""

    def work(machine: Unpickler) -> None:
        machine.charge(machine.stack)
        step(machine)

    return work


def _build(machine: Unpickler) -> None:
    state, target = machine.stack[-1], machine.stack[-2]
    if not isinstance(target, CHANGED):
        raise RefusedError(f"a change to a {type(target).__name__}")
    if not isinstance(target, Stub):  # which keeps its state as it is
        machine.charge(state)
    Python.load_build(machine)


def _set_item(machine: Unpickler) -> None:
    *_, target, key, _ = machine.stack
    _check_grows(target, dict)
    check_key(key)
    Python.load_setitem(machine)


def _set_items(machine: Unpickler) -> None:
    _check_grows(machine.metastack[-1][-1], dict)
    for key in machine.stack[::2]:  # since the mark: key, value, key, value
        check_key(key)
    Python.load_setitems(machine)


def _add_items(machine: Unpickler) -> None:
    _check_grows(machine.metastack[-1][-1], set)
    for key in machine.stack:
        check_key(key)
    Python.load_additems(machine)


def _append(machine: Unpickler) -> None:
    _check_grows(machine.stack[-2], list)
    Python.load_append(machine)


def _appends(machine: Unpickler) -> None:
    _check_grows(machine.metastack[-1][-1], list)
    Python.load_appends(machine)


def _frozenset(machine: Unpickler) -> None:
    for key in machine.stack:
        check_key(key)
    Python.load_frozenset(machine)


def _dict(machine: Unpickler) -> None:
    for key in machine.stack[::2]:
        check_key(key)
    Python.load_dict(machine)


def _check_grows(target: Any, kind: type[Any]) -> None:
    if not isinstance(target, kind):
        raise RefusedError(f"a change to a {type(target).__name__}")


def _bytearray(machine: Unpickler) -> None:
    (count,) = struct.unpack("<Q", machine.read(SIXTY_FOUR))
    machine.append(bytearray(machine.read(count)))


TEXTS = (
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING"),
    *("SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
)
CALLS, INSTANCES = ("REDUCE", "NEWOBJ", "NEWOBJ_EX"), ("INST", "OBJ")
CHANGED = (Stub, Array, Dtype, OrderedDict, Call)  # the last refuses by itself


def _wrapped(names: Iterable[str], wrap: Callable[[Step], Step]) -> dict[int, Step]:
    codes = [getattr(pickle, name)[0] for name in names]
    return {code: wrap(Python.dispatch[code]) for code in codes}


STEPS: dict[int, Step] = {
    **Python.dispatch,
    **_wrapped(TEXTS, _made),
    **_wrapped(CALLS, _called),
    **_wrapped(INSTANCES, _instantiated),
    pickle.BUILD[0]: _build,
    pickle.SETITEM[0]: _set_item,
    pickle.SETITEMS[0]: _set_items,
    pickle.ADDITEMS[0]: _add_items,
    pickle.APPEND[0]: _append,
    pickle.APPENDS[0]: _appends,
    pickle.FROZENSET[0]: _frozenset,
    pickle.DICT[0]: _dict,
    pickle.BYTEARRAY8[0]: _made(_bytearray),
}
