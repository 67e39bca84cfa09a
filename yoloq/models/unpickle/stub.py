"""What stands for an object of a pickled class, and what a reader stops at."""

from typing import Any


class Stub:
    """Stands for an object of the file: `path` names its class, `state` holds its attributes."""

    path = ""
    args: tuple[Any, ...]
    state: dict[str, Any]

    def __new__(cls, *args: Any, **_: Any) -> "Stub":
        self = super().__new__(cls)
        self.args, self.state = args, {}
        return self

    def __init__(self, *_: Any, **__: Any) -> None:
        """Take whatever the real class takes; `__new__` has kept it."""

    def __setstate__(self, state: Any) -> None:
        self.state = state if isinstance(state, dict) else {}


class FusedForward:
    """Stands for the method `forward_fuse`, which a folded convolution has for its `forward`."""

    def __init__(self, owner: Stub) -> None:
        self.owner = owner


class RefusedError(Exception):
    """A name that the file may not use; the text is the name."""


class TooMuchError(Exception):
    """The file asks for more than its size explains; the text says of what."""
