"""What an engine is: it builds a file from a model, and loads that file as a predictor."""

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray
from torch import nn

from yoloq.models import LoadedModel
from yoloq.models.heads import Head, head_from_json
from yoloq.quant.policy import Residual, Sharing
from yoloq.quant.quantized import QuantizedModel

METADATA = "yoloq"  # key under which an engine file carries its ModelInfo
PIP = ".venv/bin/pip install"


@dataclass(frozen=True)
class ModelInfo:
    """What has to travel with an engine to turn an image into named boxes."""

    head: Head
    names: tuple[str, ...]
    imgsz: int
    conf: float = 0.25
    iou: float = 0.45

    def to_json(self) -> str:
        """One JSON text."""
        return json.dumps({**self.__dict__, "head": self.head.to_json()})

    @staticmethod
    def from_json(text: str) -> "ModelInfo":
        """Read what `to_json` wrote."""
        data = json.loads(text)
        data |= {"head": head_from_json(data["head"]), "names": tuple(data["names"])}
        return ModelInfo(**data)


class Predictor(Protocol):
    """A loaded engine.

    Called with uint8 (N, imgsz, imgsz, 3) RGB images it returns the raw maps, a list of float32
    (N, C, H / stride, W / stride). `float_type` is the type of what is not int8.
    """

    model: ModelInfo
    float_type: str

    def __call__(self, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]: ...


@dataclass(frozen=True)
class BuildOptions:
    """What a build can be told beyond its precision; an engine names those that it understands.

    Attributes:
        batch: images at once.
        max_batch: above `batch`: any number of images from 1 to this, fastest at `batch`.
        workspace: GiB of scratch memory; 0: as much as there is.
        tf32: let FP32 convolutions round their inputs to TF32.
        level: how long to search for fast kernels, 0 to 5.
        calibrator: of `int8-implicit`, `entropy` or `minmax`.
        fp16_layers: patterns of the convolutions that `int8-implicit` keeps in FP16.
        ranges: ranges that `int8-implicit` is given by hand, `model.8.cv1=4.2` is +-4.2.
    """

    batch: int = 1
    max_batch: int = 0
    workspace: float = 0.0
    tf32: bool = False
    level: int = 3
    calibrator: str = "entropy"
    fp16_layers: tuple[str, ...] = ()
    ranges: tuple[str, ...] = ()


@dataclass(frozen=True)
class Calibration:
    """Images for an engine that calibrates by itself.

    `batches` yields uint8 (N, imgsz, imgsz, 3) letterboxed RGB images, `count` in all; `key` is the
    hash of all that their content depends on.
    """

    key: str
    count: int
    batches: Callable[[], Iterator[NDArray[np.uint8]]]


@dataclass(frozen=True)
class Source:
    """What an engine is built from: the fused float model and its calibrated counterpart.

    `device` is where an engine is built that measures kernels to choose from them. `caches` is the
    folder for what its next build can use, such as those times; None: beside the engine.
    """

    info: ModelInfo
    model: LoadedModel
    quantized: QuantizedModel
    options: BuildOptions = BuildOptions()
    calibration: Calibration | None = None
    device: str = "auto"
    caches: Path | None = None

    def net(self, precision: str) -> nn.Module:
        """The network of a precision."""
        return (self.quantized.model if precision == "int8" else self.model).net


@dataclass(frozen=True)
class NodeTime:
    """What one executed node of an engine took.

    Attributes:
        kind: the engine's name of the operator.
        precision: the type it computed in, int8, bf16, fp16 or fp32, or the engine's word for
            another.
        sources: names of the ONNX nodes and tensors that the engine fused into it; of a node that
            the engine added itself (a reorder), those of its readers, else of what it reads.
        ms: median over the runs in milliseconds, or their mean where an engine only counts that.
    """

    kind: str
    precision: str
    sources: tuple[str, ...]
    ms: float


Profile = Callable[[Path, str, str, int, int], list[NodeTime]]
Watch = Callable[[NDArray[np.uint8]], dict[str, NDArray[np.float32]]]


@dataclass(frozen=True)
class Engine:
    """One row of the table of engines.

    `precisions(device)` lists what runs there, FP32 first. `build(source, precision, folder)`
    writes a file and returns it; `load(file, precision, device, threads)` opens it. `simulated`
    says that int8 is computed in float and so claims no speed. `profile(file, precision, device,
    threads, runs)` gives the time of every node in the order of execution; None where an engine
    has no profile. `intermediates(source, precision, layers, threads)` opens the network so that,
    called with uint8 (1, imgsz, imgsz, 3), it gives the outputs (1, C, H, W) of the named
    convolutions before their activation; None where an engine cannot. `options` names the
    `BuildOptions` that the engine understands. `graph(source, precision)` is the ONNX graph that
    it builds from, and `target` what the linter calls it: nothing is linted without both.
    `keeps_graph` says that this graph is a result of its own, for the vendor's tools.
    `sharing` and `residual` are the placement (`quant.placement.Policy`) that it runs fastest.
    `devices` is where it runs: cpu, cuda. `check_device(device)` raises an EngineError where it
    does not run on that: asked before its package, which may be gigabytes, is found missing.
    `install` says how to get that, where its name alone does not. `check(precisions, given)` raises
    an EngineError where a precision or an option that is set (by its name) is none of the installed
    version, or the option none of the precisions that are asked for (none: all of them).
    `check_names(options, convolutions)` raises one where an option names no convolution.
    """

    name: str
    precisions: Callable[[str], tuple[str, ...]]
    build: Callable[[Source, str, Path], Path]
    load: Callable[[Path, str, str, int], Predictor]
    simulated: bool = False
    profile: Profile | None = None
    intermediates: Callable[[Source, str, Sequence[str], int], Watch] | None = None
    options: tuple[str, ...] = ()
    graph: Callable[[Source, str], onnx.ModelProto] | None = None
    target: str = ""
    keeps_graph: bool = False
    sharing: Sharing = "siblings"
    residual: Residual = "none"
    devices: tuple[str, ...] = ("cpu",)
    check_device: Callable[[str], object] | None = None
    install: str = ""
    check: Callable[[Sequence[str], Collection[str]], None] | None = None
    check_names: Callable[[BuildOptions, Sequence[str]], None] | None = None


def any_image(imgsz: int) -> NDArray[np.uint8]:
    """Noise to run an engine on where only the time counts, uint8 (1, imgsz, imgsz, 3)."""
    return np.random.default_rng(0).integers(0, 256, (1, imgsz, imgsz, 3), np.uint8)


def by_one(
    run: Callable[[NDArray[np.uint8]], Sequence[NDArray[Any]]], images: NDArray[np.uint8]
) -> list[NDArray[np.float32]]:
    """Run a batch-1 graph on each image; its outputs have channels last, the result first.

    The engine's own output is copied once: its memory is the next image's.
    """
    maps: list[NDArray[np.float32]] = []
    for index in range(len(images)):
        outputs = run(images[index : index + 1])
        maps = maps or [np.empty((len(images), *o.shape[1:]), np.float32) for o in outputs]
        for level, output in zip(maps, outputs, strict=True):
            level[index] = output[0]
    return [level.transpose(0, 3, 1, 2) for level in maps]


def engine_files(file: Path) -> list[Path]:
    """An engine file and the weights beside it (OpenVINO's .bin) where there are any."""
    beside = file.with_suffix(".bin")
    return [file, beside] if beside.exists() else [file]
