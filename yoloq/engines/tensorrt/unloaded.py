"""An engine file of TensorRT for RTX on a machine that cannot run it."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yoloq.base.errors import EngineError
from yoloq.engines.tensorrt.inspector import LayerInfo
from yoloq.engines.tensorrt.library import Library
from yoloq.engines.tensorrt.manifest import read_engine


class UnloadedEngine:
    """What a file says of itself; a predictor that refuses to run.

    Args:
        why: it cannot be run here.

    Raises:
        EngineError: it is no whole file of the library's engine.
    """

    def __init__(self, library: Library, file: Path, why: str) -> None:
        self.file, self.why = file, why
        self.manifest, _ = read_engine(library, file)
        self.model = self.manifest.info
        self.float_type = self.manifest.float_type

    def layers(self) -> list[LayerInfo]:
        """What the builder said that the engine consists of."""
        return self.manifest.built_layers

    def __call__(self, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        raise EngineError(f"{self.file}: {self.why}")
