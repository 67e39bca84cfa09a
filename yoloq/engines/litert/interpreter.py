"""A .tflite file that yoloq wrote, run by LiteRT's interpreter."""

import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yoloq.base.errors import EngineError
from yoloq.base.machine import raise_memory
from yoloq.base.own_files import MAKE
from yoloq.engines import packages
from yoloq.engines.predictor import METADATA, ModelInfo, by_one


class LiteRTPredictor:
    """An interpreter on the CPU."""

    float_type = "fp32"

    def __init__(self, content: bytes, threads: int) -> None:
        self.interpreter = packages.litert().Interpreter(model_content=content, num_threads=threads)
        self.interpreter.allocate_tensors()
        [self.image] = (item["index"] for item in self.interpreter.get_input_details())
        self.outputs = [item["index"] for item in self.interpreter.get_output_details()]
        self.model = model_info(content)
        self._turn = threading.Lock()

    def __call__(self, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        return by_one(self.run, images)

    def run(self, image: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """The outputs of one image, as copies."""
        with self._turn:
            self.interpreter.set_tensor(self.image, image)
            self.interpreter.invoke()
            return [self.interpreter.get_tensor(index) for index in self.outputs]


def model_info(content: bytes) -> ModelInfo:
    """What travels in a file.

    Raises:
        ValueError: nothing does.
    """
    model = packages.litert_schema().Model.GetRootAs(content, 0)
    for entry in map(model.Metadata, range(model.MetadataLength())):
        if entry.Name().decode() == METADATA:
            text = model.Buffers(entry.Buffer()).DataAsNumpy().tobytes()
            return ModelInfo.from_json(text.decode())
    raise ValueError("says nothing of classes and sizes")


def load(file: Path, precision: str, device: str, threads: int) -> LiteRTPredictor:
    """Open a file that `build` wrote.

    Raises:
        EngineError: it is damaged, or of another tool.
    """
    return _open(file, file.read_bytes(), threads)


def streams(
    file: Path, precision: str, device: str, threads: int, count: int
) -> list[LiteRTPredictor]:
    """Interpreters, each with its share of the threads.

    Raises:
        EngineError: as for `load`.
    """
    content = file.read_bytes()
    return [_open(file, content, max(1, threads // count)) for _ in range(count)]


def _open(file: Path, content: bytes, threads: int) -> LiteRTPredictor:
    try:
        return LiteRTPredictor(content, threads)
    except (ValueError, RuntimeError) as error:  # its way to refuse a file
        raise_memory(error)
        reason = str(error).strip().partition("\n")[0]
        again = f"build it: {MAKE} engine ENGINE=litert ARGS=--force"
        raise EngineError(f"{file}: is no .tflite file of yoloq ({reason}); {again}") from None
