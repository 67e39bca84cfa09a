"""What an engine is: it builds a file from a model, and loads that file as a predictor."""

import copy
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray
from torch import nn

from yoloq.base.config import DEFAULT_IMGSZ
from yoloq.base.errors import EngineError
from yoloq.base.files import replace_when_whole
from yoloq.engines.options import BuildOptions
from yoloq.graph.export import FloatGraph, export_float, float_copy
from yoloq.models.heads import Head, head_from_json
from yoloq.models.load import LoadedModel
from yoloq.quant.policy import Policy, Residual, Sharing
from yoloq.quant.quantized import QuantizedModel, quantize_model
from yoloq.quant.trace import Op

METADATA = "yoloq"  # key under which an engine file carries its ModelInfo
GRAPH_PACKAGES = {name: (name,) for name in ("onnx", "onnx-graphsurgeon")}  # write the graphs


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
class Calibration:
    """Images for an engine that calibrates by itself.

    `batches` yields uint8 (N, imgsz, imgsz, 3) letterboxed RGB images, `count` in all; `key` is the
    hash of all that their content depends on.
    """

    key: str
    count: int
    batches: Callable[[], Iterator[NDArray[np.uint8]]]


class Exports:
    """The float graphs of a run's networks: each is exported once, whoever asks for it."""

    def __init__(self) -> None:
        self.graphs: dict[tuple[int, int], tuple[nn.Module, FloatGraph]] = {}

    def of(self, net: nn.Module, imgsz: int, batch: int, ops: Sequence[Op]) -> FloatGraph:
        """The graph of a network for a number of images; `ops` is the network's trace."""
        key = (id(net), batch)
        if key not in self.graphs:  # with the network, so that its id stays its own
            self.graphs[key] = (net, export_float(net, imgsz, batch, ops))
        return self.graphs[key][1]


@dataclass(frozen=True)
class Source:
    """What an engine is built from: the fused float model and its calibrated counterpart.

    Attributes:
        info: what travels with the engine.
        model: the float model.
        quantized: the calibrated one, of the same network.
        options: what the build is told beyond its precision.
        calibration: images for a precision whose ranges the engine calibrates itself.
        device: where an engine is built that measures kernels to choose from them.
        caches: folder for what the next build can use, such as those times; None: beside the
            engine.
        exports: float graphs, which the sources of one run share.
    """

    info: ModelInfo
    model: LoadedModel
    quantized: QuantizedModel
    options: BuildOptions = field(default_factory=BuildOptions)
    calibration: Calibration | None = None
    device: str = "auto"
    caches: Path | None = None
    exports: Exports = field(default_factory=Exports)

    @staticmethod
    def of(
        model: LoadedModel | QuantizedModel, imgsz: int = 0, device: str = "auto"
    ) -> tuple["Source", str]:
        """The source of a model alone, and the precision that it is for: int8, or fp32.

        Args:
            imgsz: image size in pixels; 0: that of the checkpoint, else 640.
        """
        if isinstance(model, QuantizedModel):
            quantized, precision = model, "int8"
            plain = replace(model.model, net=float_copy(model.model.net))
        else:
            own = replace(model, net=copy.deepcopy(model.net))
            quantized, precision, plain = quantize_model(own, Policy(())), "fp32", model
        size = imgsz or plain.imgsz or DEFAULT_IMGSZ
        info = ModelInfo(plain.head, plain.names, size)
        return Source(info, plain, quantized, device=device), precision

    def net(self, precision: str) -> nn.Module:
        """The network of a precision."""
        return (self.quantized.model if precision == "int8" else self.model).net

    def exported(self, precision: str, batch: int = 1) -> FloatGraph:
        """The float graph of the network of a precision."""
        return self.exports.of(self.net(precision), self.info.imgsz, batch, self.quantized.ops)


@dataclass(frozen=True)
class Graph:
    """What is linted, kept and built: one object.

    Attributes:
        source: what it was made from.
        precision: as the engine calls it.
        lowered: the ONNX graph as the engine runs it; None of an engine that reads none.
    """

    source: Source
    precision: str
    lowered: onnx.ModelProto | None = None

    @property
    def model(self) -> onnx.ModelProto:
        """The graph of an engine that reads one."""
        assert self.lowered is not None, "this engine lowers to ONNX"
        return self.lowered


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
Packages = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Compiler:
    """What only an engine has that a vendor's library compiles for one GPU.

    Attributes:
        options: names of the `BuildOptions` that it understands.
        check_device: raises an EngineError where the engine does not run on a device; asked before
            its package, which may be gigabytes, is found missing.
        check: raises one where a precision that is asked for (none: all) or an option that is set
            (by its name) is none of the installed version, or the option none of the precisions.
        check_names: raises one where an option names no convolution.
        calibrates: precisions whose ranges it calibrates itself, from `Source.calibration`.
    """

    options: tuple[str, ...]
    check_device: Callable[[str], object]
    check: Callable[[Sequence[str], Collection[str]], None]
    check_names: Callable[[BuildOptions, Sequence[str]], None]
    calibrates: tuple[str, ...] = ()


@dataclass(frozen=True)
class Engine:
    """One row of the table of engines.

    Attributes:
        name: on the command line, and of its module.
        precisions: device -> what runs there, FP32 first.
        build: (graph, folder) -> the engine file that it wrote into the folder.
        load: (file, precision, device, threads) -> the predictor.
        packages: what its figures depend on: package -> the distributions that it may come from.
        lower: (source, precision) -> the ONNX graph that it builds from; None: it reads none.
        target: what the linter calls it; empty: nothing is linted.
        keeps_graph: the lowered graph is a result of its own, for the vendor's tools.
        simulated: int8 is computed in float and so claims no speed.
        profile: (file, precision, device, threads, runs) -> the time of every node in the order of
            execution; None: it has no profile.
        intermediates: (source, precision, layers, threads) -> a function that, called with uint8
            (1, imgsz, imgsz, 3), gives the outputs (1, C, H, W) of the named convolutions before
            their activation; None: it cannot.
        sharing, residual: the placement (`quant.policy.Policy`) that it runs fastest.
        devices: where it runs: cpu, cuda.
        install: how to get its package, where its name alone does not say.
        compiler: of an engine that a vendor's library compiles.
    """

    name: str
    precisions: Callable[[str], tuple[str, ...]]
    build: Callable[[Graph, Path], Path]
    load: Callable[[Path, str, str, int], Predictor]
    packages: Packages = field(default_factory=dict)
    lower: Callable[[Source, str], onnx.ModelProto] | None = None
    target: str = ""
    keeps_graph: bool = False
    simulated: bool = False
    profile: Profile | None = None
    intermediates: Callable[[Source, str, Sequence[str], int], Watch] | None = None
    sharing: Sharing = "siblings"
    residual: Residual = "none"
    devices: tuple[str, ...] = ("cpu",)
    install: str = ""
    compiler: Compiler | None = None

    def graph(self, source: Source, precision: str) -> Graph:
        """What `build` takes.

        Raises:
            PolicyError: the engine does not run the network's quantizers.
        """
        lowered = None if self.lower is None else self.lower(source, precision)
        return Graph(source, precision, lowered)

    def make(self, source: Source, precision: str, folder: Path) -> Path:
        """Lower and build."""
        return self.build(self.graph(source, precision), folder)

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the `BuildOptions` that it understands."""
        return self.compiler.options if self.compiler else ()

    def calibrates(self, precision: str) -> bool:
        """Whether the engine itself calibrates the ranges of a precision."""
        return self.compiler is not None and precision in self.compiler.calibrates


def described(model: onnx.ModelProto, info: ModelInfo) -> onnx.ModelProto:
    """A copy of a graph that carries what has to travel with it."""
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    onnx.helper.set_model_props(copied, {METADATA: info.to_json()})
    return copied


def save_graph(graph: Graph, file: Path) -> Path:
    """Write a lowered graph whole, with what has to travel with it.

    Raises:
        EngineError: it is of an engine that reads no ONNX.
    """
    if graph.lowered is None:
        raise EngineError("this engine reads no ONNX; export for openvino or onnxruntime")
    with replace_when_whole(file) as temporary:
        onnx.save(described(graph.lowered, graph.source.info), temporary)
    return file


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
