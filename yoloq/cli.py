"""What all stage scripts share: parse, run, and turn errors into one line and an exit code."""

import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from .config import StageConfig, parse
from .errors import UserError

C = TypeVar("C", bound=StageConfig)


def main(config: type[C], run: Callable[[C], Any], arguments: Sequence[str] | None = None) -> int:
    """Run a stage from the command line; returns the exit code (2: the user can mend it)."""
    try:
        run(parse(config, arguments))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; finished parts are kept, start again to go on", file=sys.stderr)
        return 130
    return 0
