"""A fake of the parts of torch.cuda that run an engine, and of an engine that they run.

Memory is the CPU's; a captured graph holds the runs that were enqueued meanwhile and repeats them.
"""

import contextlib
import ctypes
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorrt as trt
import torch
from numpy.typing import NDArray
from trt_fakes import Fake, FakeTensorRT

SHAPES = {"images": (8, 8, 3), "raw0": (2, 2, 4), "raw1": (1, 1, 4)}  # of one image
MILLISECONDS = 2.5  # between any two events


def expected(images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    """What the engine gives: the sum of an image, and its square root, in every cell."""
    sums = images.astype(np.float32).sum((1, 2, 3))
    full = [
        np.broadcast_to(v[:, None, None, None], (len(v), *SHAPES[n]))
        for n, v in (("raw0", sums), ("raw1", np.sqrt(sums)))
    ]
    return [each.transpose(0, 3, 1, 2) for each in full]


class Gpu:
    """What happened on the fake GPU.

    Attributes:
        enqueued: number of images of every run that was enqueued and not captured.
        replayed: of every run that a graph repeated.
        no_capture: why a capture fails, if it is to.
    """

    def __init__(self) -> None:
        self.enqueued: list[int] = []
        self.replayed: list[int] = []
        self.no_capture = ""
        self.capturing: list[Callable[[], int]] | None = None

    def enqueue(self, context: Fake, stream_handle: int) -> bool:
        """`execute_async_v3`."""
        assert stream_handle == 7
        if self.capturing is not None:
            self.capturing.append(lambda: _run(context))
            return not self.no_capture
        self.enqueued.append(_run(context))
        profiler = context._values.get("profiler")
        if profiler is not None:
            for index, name in enumerate(("first", "second", "first")):
                profiler.report_layer_time(name, len(self.enqueued) + 0.25 * index)
        return True

    def pretend(self, monkeypatch: Any) -> None:
        """Put the fake in the place of torch.cuda's parts."""
        gpu = self

        class Stream:
            cuda_stream = 7

            def __init__(self, device: torch.device) -> None: ...

            def synchronize(self) -> None: ...

        class Graph:
            def __init__(self) -> None:
                self.runs: list[Callable[[], int]] = []

            def replay(self) -> None:
                gpu.replayed += [run() for run in self.runs]

        class Event:
            def __init__(self, enable_timing: bool) -> None:
                assert enable_timing

            def record(self, stream: Stream) -> None: ...

            def synchronize(self) -> None: ...

            def elapsed_time(self, end: "Event") -> float:
                return MILLISECONDS

        @contextlib.contextmanager
        def graph(made: Graph, stream: Stream, capture_error_mode: str) -> Iterator[None]:
            gpu.capturing = made.runs
            try:
                yield
            finally:
                gpu.capturing = None

        fakes = {"Stream": Stream, "CUDAGraph": Graph, "Event": Event, "graph": graph}
        for name, fake in fakes.items():
            monkeypatch.setattr(torch.cuda, name, fake)
        for name in ("device", "stream", "synchronize"):
            monkeypatch.setattr(torch.cuda, name, lambda *_: contextlib.nullcontext())
        monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)


def _run(context: Fake) -> int:
    """Read the images at their address and write what is expected."""
    shape = context._values["shape"]
    images = _array(context, "images", shape[0], context._values["kind"])
    for name, values in zip(("raw0", "raw1"), expected(images), strict=True):
        _array(context, name, shape[0], np.float32)[:] = values.transpose(0, 2, 3, 1)
    return int(shape[0])


def _array(context: Fake, name: str, count: int, kind: Any) -> NDArray[Any]:
    shape, kind = (count, *SHAPES[name]), np.dtype(kind)
    size = int(np.prod(shape)) * kind.itemsize
    memory = (ctypes.c_byte * size).from_address(context._values[f"address of {name}"])
    return np.frombuffer(memory, kind).reshape(shape)


def engine_world(
    gpu: Gpu, batch: int, largest: int, layers: str = "{}", floats: bool = False
) -> FakeTensorRT:
    """A fake TensorRT whose engine takes `batch` images, or 1 to `largest`, in bytes or floats."""
    names = list(SHAPES)
    takes = trt.DataType.FLOAT if floats else trt.DataType.UINT8

    def set_input_shape(context: Fake, name: str, shape: Any) -> bool:
        context._values.update(shape=tuple(shape), kind=np.float32 if floats else np.uint8)
        static = largest <= batch
        fits = shape[0] == batch if static else 1 <= shape[0] <= largest
        return bool(fits and tuple(shape[1:]) == SHAPES[name])

    def set_tensor_address(context: Fake, name: str, memory: int) -> bool:
        context._values[f"address of {name}"] = memory
        return True

    first = batch if largest <= batch else -1
    return FakeTensorRT(
        trt,
        {
            "ICudaEngine.num_io_tensors": len(names),
            "ICudaEngine.get_tensor_name": lambda engine, index: names[index],
            "ICudaEngine.get_tensor_mode": lambda engine, name: (
                trt.TensorIOMode.INPUT if name == "images" else trt.TensorIOMode.OUTPUT
            ),
            "ICudaEngine.get_tensor_shape": lambda engine, name: trt.Dims((first, *SHAPES[name])),
            "ICudaEngine.get_tensor_dtype": lambda engine, name: (
                takes if name == "images" else trt.DataType.FLOAT
            ),
            "IExecutionContext.set_input_shape": set_input_shape,
            "IExecutionContext.get_tensor_shape": lambda context, name: trt.Dims(
                (context._values["shape"][0], *SHAPES[name])
            ),
            "IExecutionContext.set_tensor_address": set_tensor_address,
            "IExecutionContext.execute_async_v3": gpu.enqueue,
            "EngineInspector.get_engine_information": lambda inspector, format: (
                layers if format == trt.LayerInformationFormat.JSON else ""
            ),
        },
    )
