"""What the Python bindings of TensorRT and of TensorRT for RTX have in common: the log."""

import functools
from collections import Counter, deque
from types import ModuleType
from typing import Any

KEPT = 50  # messages of each kind
LONGEST = 300  # characters of a message of TensorRT's in an error text
LAYERS = "Layers:"  # how the one verbose message begins that lists what was built


def has_builder_precision(trt: ModuleType) -> bool:
    """Whether the builder can be told precisions (flags, calibrators, layer types): 10.x alone.

    The others take every type from the ONNX graph.
    """
    return hasattr(trt.BuilderFlag, "INT8")


class Messages:
    """The latest errors and warnings of TensorRT, for the texts of our own errors.

    `warned` counts all warnings, those that were forgotten too, until they are taken; `layers` is
    the newest list of what was built, empty where there was none.
    """

    def __init__(self) -> None:
        self.errors: deque[str] = deque(maxlen=KEPT)
        self.warnings: deque[str] = deque(maxlen=KEPT)
        self.warned: Counter[str] = Counter()
        self.layers = ""

    def clear(self) -> None:
        """Forget them, before something whose messages are of interest."""
        self.errors.clear()
        self.warnings.clear()
        self.layers = ""

    def warn(self, text: str) -> None:
        """Keep a warning."""
        self.warnings.append(text)
        self.warned[text] += 1

    def take_warned(self) -> Counter[str]:
        """How often each warning came since the last call, the first to come first."""
        taken, self.warned = self.warned, Counter()
        return taken

    def reason(self) -> str:
        """The first error since `clear`, which those behind it follow from, in one line."""
        return one_line(self.errors[0]) if self.errors else "TensorRT gave no reason"


@functools.cache
def logger(trt: ModuleType) -> Any:
    """The process's only logger, alive to its end as TensorRT demands; `messages` has its texts."""

    class Logger(trt.ILogger):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)  # not super(): the bindings ask for it
            self.messages = Messages()

        def log(self, severity: Any, msg: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self.messages.errors.append(msg)
            elif severity == trt.ILogger.WARNING:
                self.messages.warn(msg)
            elif msg.lstrip().startswith(LAYERS):
                self.messages.layers = msg

    return Logger()


def one_line(text: str) -> str:
    """A message of TensorRT's as part of an error: one line, not too long."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}..."
