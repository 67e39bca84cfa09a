"""TensorRT's Python bindings: their import, version and log, and the GPU that they run on."""

import functools
import importlib
from collections import Counter, deque
from types import ModuleType
from typing import Any

import torch

from yoloq.base.errors import EngineError
from yoloq.base.machine import has_gpu, torch_device, why_no_gpu
from yoloq.engines import PIP

MAJORS = (10, 11)  # that this package builds and runs engines with
INSTALL = (
    f"{PIP} tensorrt (11.x: CUDA 13, driver r580 or newer) or tensorrt-cu12==10.16.1.11 (driver "
    "r535 or newer)"
)
DRIVER = " to r580 or newer for TensorRT 11.x"
OTHERS = "--engine openvino and onnxruntime run on the CPU"
KEPT = 50  # messages of each kind
LONGEST = 300  # characters of a message of TensorRT's in an error text


def tensorrt() -> ModuleType:
    """The package, imported when it is first used: it loads gigabytes of libraries.

    Raises:
        EngineError: it is not installed, its native libraries are missing, or its version is
            neither 10 nor 11.
    """
    try:
        trt = importlib.import_module("tensorrt")
    except ModuleNotFoundError as error:
        if error.name == "tensorrt":
            raise EngineError(
                f"--engine tensorrt: its package is not installed; {INSTALL}"
            ) from None
        raise _unloadable(error) from None
    except (ImportError, OSError, RuntimeError) as error:
        raise _unloadable(error) from None
    version = str(getattr(trt, "__version__", "unknown"))
    if not any(version.startswith(f"{number}.") for number in MAJORS):
        raise EngineError(f"--engine tensorrt: version {version} is not 10.x or 11.x; {INSTALL}")
    return trt


def _unloadable(error: Exception) -> EngineError:
    return EngineError(
        f"--engine tensorrt: its libraries cannot be loaded ({one_line(str(error))}); {INSTALL}"
    )


def major(trt: ModuleType) -> int:
    """10 or 11."""
    return int(str(trt.__version__).split(".")[0])


def has_builder_precision(trt: ModuleType) -> bool:
    """Whether the builder can be told precisions (flags, calibrators, layer types): 10.x alone.

    11.x takes every type from the ONNX graph.
    """
    return major(trt) < 11


class Messages:
    """The latest errors and warnings of TensorRT, for the texts of our own errors.

    `warned` counts all warnings, those that were forgotten too, until they are taken.
    """

    def __init__(self) -> None:
        self.errors: deque[str] = deque(maxlen=KEPT)
        self.warnings: deque[str] = deque(maxlen=KEPT)
        self.warned: Counter[str] = Counter()

    def clear(self) -> None:
        """Forget them, before something whose messages are of interest."""
        self.errors.clear()
        self.warnings.clear()

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

    return Logger()


def create(trt: ModuleType, kind: Any) -> Any:
    """A `trt.Builder` or `trt.Runtime`.

    Raises:
        EngineError: TensorRT cannot use the GPU, as with a driver that is too old for it.
    """
    log = logger(trt)
    log.messages.clear()
    try:
        made = kind(log)
    except (TypeError, RuntimeError):  # the bindings' way to say that they got a null pointer
        made = None
    if made is None:
        raise EngineError(
            f"--engine tensorrt: TensorRT {trt.__version__} cannot use this machine's GPU "
            f"({log.messages.reason()}); update the NVIDIA driver to r580 or newer for 11.x, "
            "r535 or newer for tensorrt-cu12"
        )
    return made


def gpu(device: str) -> torch.device:
    """The GPU with its index; `auto` is the first one.

    Raises:
        EngineError: the device is not an NVIDIA GPU, or none can be used here; says why.
    """
    if device == "cpu":
        raise EngineError(f"--device cpu: the tensorrt engine needs an NVIDIA GPU; {OTHERS}")
    if not has_gpu():
        raise EngineError(f"--device {device}: {why_no_gpu(DRIVER)}; {OTHERS}")
    return torch.device("cuda", torch_device(device).index or 0)


def one_line(text: str) -> str:
    """A message of TensorRT's as part of an error: one line, not too long."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}..."
