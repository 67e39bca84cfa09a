"""A loaded engine: images to raw maps, and what has to travel with it."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from yoloq.base.config import DEFAULT_IMGSZ
from yoloq.base.errors import EngineError, UserError
from yoloq.base.own_files import MAKE
from yoloq.data.loader import check_imgsz
from yoloq.models.heads import Head, head_from_json
from yoloq.models.load import LoadedModel

FORGED = (ValueError, KeyError, TypeError, AttributeError, RecursionError)  # of a damaged JSON
METADATA = "yoloq"  # key under which an engine file carries its ModelInfo


@dataclass(frozen=True)
class ModelInfo:
    """What has to travel with an engine to turn an image into named boxes."""

    head: Head
    names: tuple[str, ...]
    imgsz: int
    conf: float = 0.25
    iou: float = 0.45

    @staticmethod
    def of(model: LoadedModel, imgsz: int = 0) -> "ModelInfo":
        """That of a model.

        Args:
            imgsz: image size in pixels; 0: that of the checkpoint, else 640.

        Raises:
            UserError: the size is no multiple of the stride.
        """
        size = imgsz or model.imgsz or DEFAULT_IMGSZ
        return ModelInfo(
            model.head, model.names, check_imgsz(size, max(model.head.strides), "imgsz")
        )

    def to_json(self) -> str:
        """One JSON text."""
        return json.dumps({**self.__dict__, "head": self.head.to_json()})

    @staticmethod
    def from_json(text: str) -> "ModelInfo":
        """Read what `to_json` wrote.

        Raises:
            EngineError: it is something else. The text names no file.
        """
        try:
            data = json.loads(text)
            data |= {"head": head_from_json(data["head"]), "names": tuple(data["names"])}
            info = ModelInfo(**data)
            check_imgsz(info.imgsz, max(info.head.strides), "imgsz")
            return info
        except (*FORGED, UserError) as error:
            reason = " ".join(str(error).split())[:120]
            raise EngineError(
                f"what it says of its model is damaged ({type(error).__name__}: {reason}); "
                f"build it anew: {MAKE} engine ARGS=--force"
            ) from None


class Predictor(Protocol):
    """A loaded engine.

    Called with uint8 (N, imgsz, imgsz, 3) RGB images it returns the raw maps, a list of float32
    (N, C, H / stride, W / stride). `float_type` is the type of what is not int8. Several threads
    may call it: where it does one thing at a time they wait for each other.
    """

    model: ModelInfo
    float_type: str

    def __call__(self, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]: ...


def any_image(imgsz: int) -> NDArray[np.uint8]:
    """Noise to run an engine on where only the time counts, uint8 (1, imgsz, imgsz, 3)."""
    return np.random.default_rng(0).integers(0, 256, (1, imgsz, imgsz, 3), np.uint8)


def by_one(
    run: Callable[[NDArray[np.uint8]], Sequence[NDArray[Any]]], images: NDArray[np.uint8]
) -> list[NDArray[np.float32]]:
    """Run a batch-1 graph on each image; its outputs have channels last, the result first.

    Those of a single image are not copied: `run` gives arrays that nothing writes into again.
    """
    if len(images) == 1:
        return [np.asarray(output).transpose(0, 3, 1, 2) for output in run(images)]
    maps: list[NDArray[np.float32]] = []
    for index in range(len(images)):
        outputs = run(images[index : index + 1])
        maps = maps or [np.empty((len(images), *o.shape[1:]), np.float32) for o in outputs]
        for level, output in zip(maps, outputs, strict=True):
            level[index] = output[0]
    return [level.transpose(0, 3, 1, 2) for level in maps]
