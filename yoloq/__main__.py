"""What all stage scripts share: parse, run, and turn errors into one line and an exit code."""

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from yoloq.base.config import C, parse
from yoloq.base.errors import UserError
from yoloq.base.heap import keep_freed_memory


def main(config: type[C], run: Callable[[C], Any], arguments: Sequence[str] | None = None) -> int:
    """Run a stage from the command line; returns the exit code (2: the user can mend it).

    An int that `run` returns is the exit code of a run without errors.
    """
    keep_freed_memory()
    try:
        with _termination_as_interrupt():
            result = run(parse(config, arguments))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        named = f"{error.filename}: {error.strerror}" if error.filename else error
        print(f"error: {named}; check the path and its permissions", file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        reason = str(error).partition("\n")[0] or "the machine has no more"
        print(
            f"error: out of memory ({reason}); take a smaller --batch-size or --imgsz",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("interrupted; finished parts are kept, start again to go on", file=sys.stderr)
        return 130
    return result if isinstance(result, int) else 0


def _is_out_of_memory(error: Exception) -> bool:
    torch = sys.modules.get("torch")  # an error of torch's says that it is imported
    return isinstance(error, MemoryError) or (
        torch is not None and isinstance(error, torch.OutOfMemoryError)
    )


@contextlib.contextmanager
def _termination_as_interrupt() -> Iterator[None]:
    """Let SIGTERM unwind like Ctrl-C, so that temporary files and worker processes go."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
