"""Running a TensorRT engine: torch tensors as buffers, a CUDA graph for each number of images."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from yoloq.base.errors import EngineError
from yoloq.base.say import warn
from yoloq.engines.predictor import ModelInfo
from yoloq.engines.tensorrt.bindings import logger, one_line
from yoloq.engines.tensorrt.inspector import LayerInfo, read_layers
from yoloq.engines.tensorrt.library import Library
from yoloq.engines.tensorrt.manifest import Manifest, check_fits, read_engine

WARMUP = 3  # runs before a capture: the first of a shape still allocates
SLOTS = 4  # numbers of images that an engine is held ready for, each with its scratch memory


@dataclass
class Slot:
    """Everything that a run of one number of images touches, at addresses that never change.

    It has an execution context of its own: a captured graph holds on to its context's memory and
    shapes. `graph` is None where a run could not be captured, and is then enqueued anew each time.
    `floats` is what an engine reads that does not take bytes; to convert them is part of a run.
    """

    library: Library
    context: Any
    stream: torch.cuda.Stream
    device_in: Tensor
    device_out: list[Tensor]
    host_in: Tensor
    host_out: list[Tensor]
    floats: Tensor | None = None
    graph: torch.cuda.CUDAGraph | None = field(default=None)

    def launch(self) -> None:
        """Put one run on the stream.

        Raises:
            EngineError: TensorRT refuses.
        """
        if self.graph is not None:
            self.graph.replay()
            return
        if self.floats is not None:
            self.floats.copy_(self.device_in)
        if not self.context.execute_async_v3(stream_handle=self.stream.cuda_stream):
            raise self.library.refusal("run the engine", self.library.rebuild)

    def capture(self) -> None:
        """Record a run as a CUDA graph, and say so where that fails."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.stream(self.stream):
            for _ in range(WARMUP):
                self.launch()
            self.stream.synchronize()
            try:
                with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
                    self.launch()
            except (RuntimeError, EngineError) as error:
                reason = str(error).splitlines()[0]
                warn(
                    f"no CUDA graph, every run is enqueued ({reason}), which costs small models "
                    "time; update the driver or TensorRT"
                )
                return
        self.graph = graph


class TensorRtPredictor:
    """A deserialized engine on one GPU, with a stream of its own.

    `batch` is the number of images that it is fastest at, `largest` the most that it takes at
    once; a static engine takes exactly `batch` and gets its last images padded.
    """

    def __init__(self, library: Library, plan: bytes, manifest: Manifest, device: torch.device):
        self.library, self.manifest = library, manifest
        self.model: ModelInfo = manifest.info
        self.float_type = manifest.float_type
        self.batch = manifest.batch
        self.largest = max(manifest.batch, manifest.max_batch)
        self.device = device
        with torch.cuda.device(device):
            runtime = library.create("Runtime")
            if manifest.dla is not None:
                runtime.DLA_core = manifest.dla
            self._engine = runtime.deserialize_cuda_engine(plan)
            self.stream = torch.cuda.Stream(device)
        if self._engine is None:
            raise library.refusal("load the engine", library.rebuild)
        self._slots: dict[int, Slot] = {}
        self._turn = threading.Lock()

    @property
    def _trt(self) -> ModuleType:
        return self.library.load()

    @property
    def dynamic(self) -> bool:
        """Whether it takes any number of images up to `largest`."""
        return self.largest > self.batch

    def __call__(self, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        starts = range(0, len(images), self.largest)
        with self._turn:
            parts = [self._run(images[start : start + self.largest]) for start in starts]
        levels = zip(*parts, strict=True)
        return [np.concatenate(level).transpose(0, 3, 1, 2) for level in levels]

    def stopwatch(self, images: NDArray[np.uint8]) -> Callable[[], float]:
        """A function that runs these images once and gives the seconds on the GPU.

        They are on the GPU already and the results stay there; the time is that between two CUDA
        events around the run.

        Raises:
            ValueError: there are more images than the engine takes at once.
        """
        slot = self._filled(images)
        slot.device_in.copy_(slot.host_in)
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

        def seconds() -> float:
            with torch.cuda.device(self.device), torch.cuda.stream(self.stream):
                start.record(self.stream)
                slot.launch()
                end.record(self.stream)
            end.synchronize()
            return float(start.elapsed_time(end)) / 1e3

        return seconds

    def layers(self) -> list[LayerInfo]:
        """What the engine consists of: as the builder said where the file has it, else as it is."""
        if self.manifest.layers:
            return self.manifest.built_layers
        inspector = self._engine.create_engine_inspector()
        return read_layers(inspector.get_engine_information(self._trt.LayerInformationFormat.JSON))

    def layer_times(self, images: NDArray[np.uint8], runs: int) -> dict[str, list[float]]:
        """Milliseconds of each layer in each of so many runs behind the warm-up, by its name.

        A run is enqueued, not replayed: a profiler sees nothing of a graph.
        """
        slot = self._new_slot(len(images) if self.dynamic else self.batch)
        slot.device_in.copy_(torch.from_numpy(images))
        recorder = layer_recorder(self._trt)
        slot.context.profiler = recorder
        with torch.cuda.device(self.device), torch.cuda.stream(self.stream):
            for _ in range(WARMUP + runs):
                slot.launch()
                self.stream.synchronize()
        return {name: times[WARMUP:] for name, times in recorder.runs(WARMUP + runs).items()}

    def _run(self, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Raw maps (n, H, W, C), copied: the next run overwrites the buffers."""
        slot = self._filled(images)
        with torch.cuda.device(self.device), torch.cuda.stream(self.stream):
            slot.device_in.copy_(slot.host_in, non_blocking=True)
            slot.launch()
            for host, device in zip(slot.host_out, slot.device_out, strict=True):
                host.copy_(device, non_blocking=True)
        self.stream.synchronize()
        return [host[: len(images)].numpy().copy() for host in slot.host_out]

    def _filled(self, images: NDArray[np.uint8]) -> Slot:
        """The slot for so many images, with them in its pinned memory."""
        if len(images) > self.largest:
            raise ValueError(f"{len(images)} images, but the engine takes {self.largest} at once")
        count = len(images) if self.dynamic else self.batch
        if count not in self._slots:
            while len(self._slots) >= SLOTS:
                del self._slots[next(iter(self._slots))]
            slot = self._new_slot(count)
            with torch.cuda.device(self.device):
                slot.capture()
            self._slots[count] = slot
        slot = self._slots[count]
        slot.host_in.numpy()[: len(images)] = images
        return slot

    def _new_slot(self, count: int) -> Slot:
        """Context and buffers for a number of images.

        Raises:
            EngineError: the GPU has too little memory left for them.
        """
        try:
            with torch.cuda.device(self.device):
                slot = self._allocated(count)
                # the buffers are filled on another stream than they are used on
                torch.cuda.synchronize(self.device)
                return slot
        except torch.OutOfMemoryError as error:
            raise self._too_large(count, one_line(str(error))) from None

    def _allocated(self, count: int) -> Slot:
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        mode = self._trt.TensorIOMode.INPUT
        [name] = [name for name in names if self._engine.get_tensor_mode(name) == mode]
        shape = (count, *tuple(self._engine.get_tensor_shape(name))[1:])
        context = self._engine.create_execution_context()
        if context is None or not context.set_input_shape(name, shape):
            raise self._too_large(count)
        outputs = sorted(each for each in names if each != name)
        shapes = [tuple(context.get_tensor_shape(each)) for each in outputs]
        device_in = torch.zeros(shape, dtype=torch.uint8, device=self.device)
        takes_bytes = self._engine.get_tensor_dtype(name) == self._trt.DataType.UINT8
        floats = None if takes_bytes else torch.zeros(shape, device=self.device)
        device_out = [torch.empty(s, device=self.device) for s in shapes]
        read = device_in if floats is None else floats
        for each, tensor in zip([name, *outputs], [read, *device_out], strict=True):
            context.set_tensor_address(each, tensor.data_ptr())
        host_in = torch.zeros(shape, dtype=torch.uint8).pin_memory()
        host_out = [torch.empty(s).pin_memory() for s in shapes]
        return Slot(
            self.library, context, self.stream, device_in, device_out, host_in, host_out, floats
        )

    def _too_large(self, count: int, reason: str = "") -> EngineError:
        remedy = "free memory of the GPU or build with a smaller --batch or --max-batch"
        return self.library.refusal(f"run {count} images at once", remedy, reason)


def layer_recorder(trt: ModuleType) -> Any:
    """A profiler that keeps the time of every layer in every run."""

    class Recorder(trt.IProfiler):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)  # not super(): the bindings ask for it
            self.times: dict[str, list[float]] = {}

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.times.setdefault(layer_name, []).append(ms)

        def runs(self, count: int) -> dict[str, list[float]]:
            """By layer a time a run; what is reported several times in a run is added up."""
            return {name: _by_run(times, count) for name, times in self.times.items()}

    return Recorder()


def _by_run(times: Sequence[float], count: int) -> list[float]:
    each = max(1, len(times) // count)
    return [sum(times[run * each : (run + 1) * each]) for run in range(count)]


def open_engine(library: Library, file: Path, device: str) -> TensorRtPredictor:
    """Load an engine file on a GPU.

    Raises:
        EngineError: there is no GPU or no library, or the file is damaged or was built for another
            GPU or version.
    """
    trt, where = library.load(), library.gpu(device)
    manifest, plan = read_engine(library, file)
    check_fits(library, file, manifest, where)
    logger(trt).messages.clear()
    return TensorRtPredictor(library, plan, manifest, where)
