"""The variables of the Makefile as flags: what is written for make also runs without one."""

import re
import shlex
from collections.abc import Iterator, Sequence

VARIABLE = re.compile(r"([A-Z]+)=(.*)", re.S)
SEVERAL = ("RUNS",)  # whose words are values of their own


def as_flags(words: Sequence[str]) -> Iterator[str]:
    """The words of a command with each variable among them as its flag.

    `WEIGHTS=a.pt` is `--weights a.pt`; the words in `ARGS` stand for themselves. As for make an
    empty variable is none.
    """
    for word in words:
        found = VARIABLE.fullmatch(word)
        if not found:
            yield word
            continue
        name, value = found.groups()
        if name != "ARGS" and value:
            yield f"--{name.lower()}"
        if name in ("ARGS", *SEVERAL):
            yield from shlex.split(value)
        elif value:
            yield value
