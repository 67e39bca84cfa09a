"""A network of ncnn that yoloq wrote, run by ncnn on the CPU."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yoloq.base.errors import EngineError
from yoloq.base.own_files import MAKE
from yoloq.engines import packages
from yoloq.engines.ncnn.net_file import WORD
from yoloq.engines.ncnn.translation import ABOUT
from yoloq.engines.predictor import FORGED, ModelInfo, by_one
from yoloq.graph.export import INPUT

FLOAT32 = {  # ncnn would hold blobs in 16 bits where the CPU has an instruction for that
    **dict.fromkeys(("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic"), False),
    **dict.fromkeys(("use_bf16_packed", "use_bf16_storage"), False),
}


class NcnnPredictor:
    """A loaded network.

    Args:
        file: the .param; its .bin is beside it.
        blobs: what is asked for; none: the results.
        keep: blobs between, which have to be kept to be asked for.

    Raises:
        ValueError: it is damaged, or of another tool.
    """

    float_type = "fp32"

    def __init__(
        self, file: Path, threads: int, blobs: Sequence[str] = (), keep: bool = False
    ) -> None:
        self.model = about(file)
        self.ncnn = packages.ncnn()
        self.net = self.ncnn.Net()
        options = {**FLOAT32, "num_threads": threads, "lightmode": not keep}
        for name, value in options.items():
            setattr(self.net.opt, name, value)
        if self.net.load_param(str(file)) or self.net.load_model(str(weights_of(file))):
            raise ValueError("ncnn cannot read it")
        made = [name for name in self.net.output_names() if name != ABOUT]
        self.blobs = list(blobs) or made

    def __call__(self, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        return by_one(
            lambda image: [raw.transpose(1, 2, 0)[None] for raw in self.run(image)], images
        )

    def run(self, image: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """The blobs (C, H, W) of one image, as copies."""
        size, kind = self.model.imgsz, self.ncnn.Mat.PixelType.PIXEL_RGB
        extractor = self.net.create_extractor()
        pixels = np.ascontiguousarray(image[0])
        extractor.input(INPUT, self.ncnn.Mat.from_pixels(pixels, kind, size, size))
        return [np.array(_extracted(extractor, name)) for name in self.blobs]


def _extracted(extractor: Any, name: str) -> Any:
    code, blob = extractor.extract(name)
    if code:
        raise EngineError(f"ncnn gives no {name} (code {code}); leave int8 out with --precisions")
    return blob


def weights_of(file: Path) -> Path:
    """The .bin of a .param."""
    return file.with_suffix(".bin")


def about(file: Path) -> ModelInfo:
    """What travels in a network.

    Raises:
        ValueError: nothing does, or its .bin is not whole.
    """
    _, _, first = file.read_text(encoding="utf-8").split("\n", 3)[:3]
    kind, name, *_, size = first.split()
    words = int(size.removeprefix("0="))
    if (kind, name) != ("MemoryData", ABOUT):
        raise ValueError("says nothing of classes and sizes")
    with weights_of(file).open("rb") as stream:
        try:
            found = json.loads(stream.read(words * WORD))
            rest, text = found["bytes"], found["model"]
        except FORGED:
            raise ValueError("its .bin is of another network") from None
        if len(stream.read()) != rest:
            raise ValueError("its .bin is not whole")
    return ModelInfo.from_json(text)


def load(file: Path, precision: str, device: str, threads: int) -> NcnnPredictor:
    """Open what `build` wrote.

    Raises:
        EngineError: it is damaged, or of another tool.
    """
    try:
        return NcnnPredictor(file, threads)
    except (ValueError, OSError) as error:
        again = f"build it: {MAKE} engine ENGINE=ncnn ARGS=--force"
        raise EngineError(f"{file}: is no network of yoloq ({error}); {again}") from None
