"""The commands that a user types to run a stage again: make's in a clone, else yoloq's."""

import shlex
from collections.abc import Mapping
from typing import Any

from yoloq.base.own_files import MAKE

VARIABLES = ("weights", "data", "imgsz", "name", "device")  # of make; the rest goes through ARGS
WITH_ENGINE = ("ptq", "engine", "sensitivity", "search", "swap", "auto", "table")


def make_command(
    target: str, config: Mapping[str, Any], defaults: Mapping[str, Any], extra: str = ""
) -> str:
    """The line that gives a stage these options.

    Args:
        config: options by their names; those that `defaults` has not are left out.
        extra: flags that are added.
    """
    given = {k: v for k, v in config.items() if k in defaults and _plain(v) != _plain(defaults[k])}
    given.pop("force", None)
    names = (*VARIABLES, "engine") if target in WITH_ENGINE else VARIABLES
    words = [MAKE, target]
    words += [f"{name.upper()}={_quoted(str(given.pop(name)))}" for name in names if name in given]
    flags = [word for name, value in given.items() for word in _flag(name, value)]
    rest = " ".join([*map(shlex.quote, flags), *filter(None, [extra])])
    return " ".join([*words, f"ARGS={_quoted(rest)}"] if rest else words)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _flag(name: str, value: Any) -> list[str]:
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    values = value if isinstance(value, (list, tuple)) else [value]
    return [f"--{flag}", *map(str, values)]


def _quoted(words: str) -> str:
    """For the shell, and for make, which reads `$` itself."""
    quoted = shlex.quote(words)
    return quoted.replace("$", "$$") if MAKE == "make" else quoted
