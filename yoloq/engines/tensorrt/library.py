"""NVIDIA's libraries with one kind of Python bindings: TensorRT, and TensorRT for RTX."""

import importlib
import importlib.util
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch

from yoloq.base.errors import EngineError
from yoloq.base.machine import has_gpu, torch_device, why_no_gpu
from yoloq.base.own_files import MAKE
from yoloq.engines import PIP
from yoloq.engines.tensorrt.bindings import logger, one_line

OTHERS = "--engine openvino and onnxruntime run on the CPU"


@dataclass(frozen=True)
class Library:
    """One of them: what it is called, and how it is had.

    Attributes:
        engine: the engine's name on the command line and in file names.
        title: its name in messages.
        modules: that have to be found; the last one has its classes.
        versions: how those begin that this package builds and runs engines with.
        install: the command that gets it.
        driver: of the GPU, that it needs.
    """

    engine: str
    title: str
    modules: tuple[str, ...]
    versions: tuple[str, ...]
    install: str
    driver: str

    @property
    def rebuild(self) -> str:
        """What mends an engine file that cannot be used."""
        return f"build it here: {MAKE} engine ENGINE={self.engine} ARGS=--force"

    def is_installed(self) -> bool:
        """Whether its modules are there."""
        return all(importlib.util.find_spec(name) for name in self.modules)

    def load(self, flag: str = "") -> ModuleType:
        """The module with its classes, imported when it is first used: it loads gigabytes.

        Args:
            flag: that needs it, for the text of an error; empty: `--engine`.

        Raises:
            EngineError: it is not installed, its native libraries are missing, or its version is
                none of `versions`.
        """
        flag = flag or f"--engine {self.engine}"
        try:
            trt = importlib.import_module(self.modules[-1])
        except (ImportError, OSError, RuntimeError) as error:
            missing = isinstance(error, ModuleNotFoundError) and error.name in self.modules
            reason = f"libraries cannot be loaded ({one_line(str(error))})"
            what = "package is not installed" if missing else reason
            raise EngineError(f"{flag}: its {what}; {self.install}") from None
        version = str(getattr(trt, "__version__", "unknown"))
        if not any(version.startswith(f"{each}.") for each in self.versions):
            wanted = " or ".join(f"{each}.x" for each in self.versions)
            raise EngineError(f"{flag}: version {version} is not {wanted}; {self.install}")
        return trt

    def create(self, kind: str) -> Any:
        """A `Builder` or `Runtime`.

        Raises:
            EngineError: the library cannot use the GPU, as with a driver that is too old for it.
        """
        trt = self.load()
        log = logger(trt)
        log.messages.clear()
        try:
            made = getattr(trt, kind)(log)
        except (TypeError, RuntimeError):  # the bindings' way to say that they got a null pointer
            made = None
        if made is None:
            raise EngineError(
                f"--engine {self.engine}: {self.title} {trt.__version__} cannot use this machine's "
                f"GPU ({log.messages.reason()}); update the NVIDIA driver to {self.driver}"
            )
        return made

    def refusal(self, what: str, remedy: str, reason: str = "") -> EngineError:
        """An error that says what the library cannot do, why, and what to do.

        Args:
            reason: empty: what the library said last.
        """
        why = reason or logger(self.load()).messages.reason()
        return EngineError(f"{self.title} cannot {what} ({why}); {remedy}")

    def gpu(self, device: str) -> torch.device:
        """The GPU with its index; `auto` is the first one.

        Raises:
            EngineError: the device is not an NVIDIA GPU, or none can be used here; says why.
        """
        if device == "cpu":
            raise EngineError(
                f"--device cpu: the {self.engine} engine needs an NVIDIA GPU; {OTHERS}"
            )
        if not has_gpu():
            raise EngineError(f"--device {device}: {self.no_gpu()}; {OTHERS}")
        return torch.device("cuda", torch_device(device).index or 0)

    def no_gpu(self) -> str:
        """What keeps torch from an NVIDIA GPU, and what mends it."""
        return why_no_gpu(f" to {self.driver}")


TENSORRT = Library(
    "tensorrt",
    "TensorRT",
    ("tensorrt",),
    ("10", "11"),
    f"{PIP} tensorrt (11.x: CUDA 13, driver r580 or newer) or tensorrt-cu12==10.16.1.11 (driver "
    "r535 or newer)",
    "r580 or newer for TensorRT 11.x, r535 or newer for tensorrt-cu12",
)
RTX_VERSION = "1.7.1.116"
RTX = Library(
    "tensorrt-rtx",
    "TensorRT for RTX",
    ("tensorrt_rtx_libs", "tensorrt_rtx_bindings"),
    ("1",),
    f"{PIP} --no-deps tensorrt-rtx-cu13-bindings=={RTX_VERSION} "
    f"tensorrt-rtx-cu13-libs=={RTX_VERSION}",
    "r580 or newer",
)
