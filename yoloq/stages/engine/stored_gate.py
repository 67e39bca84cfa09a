"""What an engine was gated on, kept beside it: it is gated again where it is opened elsewhere.

One and the same int8 file computes rightly on one CPU and wrongly on another: see
`docs/stages/engine.md`. Kept are a few images; the references are the ONNX files of the run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yoloq.base.errors import RunError
from yoloq.base.files import replace_when_whole
from yoloq.base.npz import opened
from yoloq.base.result import StageResult
from yoloq.base.say import say
from yoloq.engines.base import Engine
from yoloq.engines.predictor import Predictor
from yoloq.stages.engine.gate import Gate, images_of
from yoloq.stages.run import Inputs

KEPT = 4  # images; at 640 pixels five megabytes
ARTIFACT = "gate"  # key of their file
ONNX = "onnx-"  # before the keys of the references


def save_images(inputs: Inputs, stage: str, count: int) -> dict[str, str]:
    """Keep some of the first images, of which `count` were gated on; key and name of the file."""
    images = images_of(inputs, min(count, KEPT))
    name = f"{stage}-gate.npz"
    with replace_when_whole(inputs.config.folder / name) as made, open(made, "wb") as stream:
        np.savez_compressed(stream, images=images)
    return {ARTIFACT: name}


@dataclass(frozen=True)
class StoredGate:
    """The gate of a run, to be opened once more.

    Attributes:
        folder: the run folder.
        images: name of the file with them.
        onnx: names of the references by key.
        remedy: what to do where an engine does not pass.
    """

    folder: Path
    images: str
    onnx: Mapping[str, str]
    remedy: str

    @staticmethod
    def of(folder: Path, result: StageResult, remedy: str) -> "StoredGate | None":
        """That of an engine's result; None where nothing was kept."""
        names = result.artifacts
        references = {key: name for key, name in names.items() if key.startswith(ONNX)}
        if ARTIFACT not in names or f"{ONNX}fp32" not in references:
            return None
        return StoredGate(folder, names[ARTIFACT], references, remedy)

    def check(self, engine: Engine, key: str, predictors: Sequence[Predictor], own: bool) -> None:
        """Hold an engine against its ONNX, here.

        Args:
            key: its name in files and rows.
            own: its ranges are its own.

        Raises:
            EngineError: it computes something else.
            RunError: the images cannot be read.
        """
        predictor = predictors[0]
        images = self._read(predictor.model.imgsz)
        gate = Gate(predictor.model.head, self.folder, self.onnx, images, 1)
        found = gate.check(engine.name, key, predictor, own, self.remedy)
        if not found:  # ONNX has not its activations of 16 bits
            return
        boxes = sum(item.boxes for item in found)
        say(f"{engine.name} {key}: gated again on this machine, {boxes} boxes: it computes rightly")

    def _read(self, imgsz: int) -> NDArray[np.uint8]:
        file = self.folder / self.images
        try:
            with opened(file) as data:
                images = data["images"]
            if images.dtype != np.uint8 or images.shape[1:] != (imgsz, imgsz, 3):
                raise ValueError(f"images of {images.dtype} {images.shape}")
            return images
        except (OSError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())
            raise RunError(f"{file}: cannot be read ({reason}); {self.remedy}") from None
