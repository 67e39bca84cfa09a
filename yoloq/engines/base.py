"""What an engine is: it builds a file from a model, and loads that file as a predictor."""

import importlib.util
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from yoloq.base.errors import EngineError
from yoloq.engines.options import DYNAMIC, BuildOptions
from yoloq.engines.predictor import Predictor
from yoloq.engines.source import Graph, Source
from yoloq.quant.policy import Residual, Sharing

GRAPH_PACKAGES = {name: (name,) for name in ("onnx", "onnx-graphsurgeon")}  # write the graphs


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
Types = Callable[[Predictor, Path, Collection[str]], Mapping[str, str]]
Packages = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Defaults:
    """What `auto` means for an engine in the flags of `make ptq`; the reasons are measurements.

    Attributes:
        symmetric: it has no zero-points, or not for free.
        float_first: how many first layers it keeps in float.
        zero_points: it runs them at all; so that the first convolution can read the image as bytes.
        sharing, residual: how far scales are shared (`quant.policy.Policy`).
    """

    symmetric: bool = False
    float_first: int = 0
    zero_points: bool = True
    sharing: Sharing = "siblings"
    residual: Residual = "none"


@dataclass(frozen=True)
class Compiler:
    """What only an engine has that a vendor's library compiles for one GPU.

    Attributes:
        options: names of the `BuildOptions` that it understands.
        check_device: raises an EngineError where the engine does not run on a device; asked before
            its package, which may be gigabytes, is found missing.
        check: raises one where a precision that is asked for (none: all) or an option that is set
            (its name and value) is none of the installed version, or the option none of the
            precisions.
        check_names: raises one where an option names no convolution.
        calibrates: precisions whose ranges it calibrates itself, from `Source.calibration`.
        cannot_run: (device, options) -> why what is built with them cannot be run here; empty where
            it can.
        unloaded: (file, why it cannot be run) -> what the file says of itself, of an engine that
            builds where it cannot run.
    """

    options: tuple[str, ...]
    check_device: Callable[[str], object]
    check: Callable[[Sequence[str], Mapping[str, Any]], None]
    check_names: Callable[[BuildOptions, Sequence[str]], None]
    calibrates: tuple[str, ...] = ()
    cannot_run: Callable[[str, BuildOptions], str] = lambda device, options: ""
    unloaded: Callable[[Path, str], Predictor] | None = None


@dataclass(frozen=True)
class Engine:
    """One row of the table of engines.

    Attributes:
        name: on the command line, and of its module here, but for a hyphen.
        precisions: device -> what runs there, FP32 first.
        build: (graph, folder) -> the engine file that it wrote into the folder.
        load: (file, precision, device, threads) -> the predictor.
        packages: what its figures depend on: package -> the distributions that it may come from.
        modules: of its package, which have to be found; none: one of its name.
        by_name_alone: it is never what `auto` means.
        lower: (source, precision) -> the ONNX graph that it builds from; None: it reads none.
        target: what the linter calls it; empty: nothing is linted.
        keeps_graph: the lowered graph is a result of its own, for the vendor's tools.
        simulated: int8 is computed in float and so claims no speed.
        profile: (file, precision, device, threads, runs) -> the time of every node in the order of
            execution; None: it has no profile.
        types: (predictor, its file, names of the network's convolutions) -> the type that each
            computes in, int8 or another, as far as the engine tells it; None: it cannot know.
        intermediates: (source, precision, layers, threads) -> a function that, called with uint8
            (1, imgsz, imgsz, 3), gives the outputs (1, C, H, W) of the named convolutions before
            their activation; None: it cannot.
        streams: (file, precision, device, threads, count) -> so many predictors that can run at
            once and share the threads; None: it runs one image, or batch, at a time.
        defaults: the placement that it runs fastest at little loss, on this machine.
        devices: where it runs: cpu, cuda.
        install: how to get its package, where its name alone does not say.
        compiler: of an engine that a vendor's library compiles.
        activation_bits: that it holds activations in where the policy says so.
        takes: names of the `BuildOptions` that an engine without a compiler understands.
    """

    name: str
    precisions: Callable[[str], tuple[str, ...]]
    build: Callable[[Graph, Path], Path]
    load: Callable[[Path, str, str, int], Predictor]
    packages: Packages = field(default_factory=dict)
    modules: tuple[str, ...] = ()
    by_name_alone: bool = False
    lower: Callable[[Source, str], onnx.ModelProto] | None = None
    target: str = ""
    keeps_graph: bool = False
    simulated: bool = False
    profile: Profile | None = None
    types: Types | None = None
    intermediates: Callable[[Source, str, Sequence[str], int], Watch] | None = None
    streams: Callable[[Path, str, str, int, int], Sequence[Predictor]] | None = None
    defaults: Callable[[], Defaults] = Defaults
    devices: tuple[str, ...] = ("cpu",)
    install: str = ""
    compiler: Compiler | None = None
    activation_bits: tuple[int, ...] = (8,)
    takes: tuple[str, ...] = ()

    def graph(self, source: Source, precision: str) -> Graph:
        """What `build` takes.

        Raises:
            PolicyError: the engine does not run the network's quantizers.
        """
        lowered = None if self.lower is None else self.lower(source, precision)
        return Graph(source, precision, lowered)

    @property
    def is_installed(self) -> bool:
        """Whether its package is there."""
        return all(importlib.util.find_spec(name) for name in self.modules or (self.name,))

    def cannot_run(self, device: str, options: BuildOptions | None = None) -> str:
        """Why what it builds cannot be run here; empty where it can."""
        return self.compiler.cannot_run(device, options or BuildOptions()) if self.compiler else ""

    def unloaded(self, file: Path, why: str) -> Predictor:
        """What a file says of itself that cannot be run here, and why that is."""
        assert self.compiler is not None and self.compiler.unloaded is not None
        return self.compiler.unloaded(file, why)

    def check_precision(self, precision: str, device: str) -> None:
        """Find what it does not run.

        Raises:
            EngineError: it does not run the precision on the device, or the device is not there.
        """
        native = self.precisions(device)
        if precision not in native:
            raise EngineError(
                f"--precisions {precision}: {self.name} runs {', '.join(native)} here; "
                "choose from these"
            )

    def check_streams(self, count: int) -> None:
        """Find that it runs one image at a time where several are asked for; 0 asks for none.

        Raises:
            EngineError: so it is.
        """
        if count > 1 and self.streams is None:
            raise EngineError(
                f"--streams {count}: the {self.name} engine runs one image at a time; leave it out"
            )

    def load_streams(
        self, file: Path, precision: str, device: str, threads: int, count: int
    ) -> Sequence[Predictor]:
        """Predictors that can run at once; one is what `load` gives.

        Raises:
            EngineError: as of `check_streams` and of `load`.
        """
        self.check_streams(count)
        if count <= 1 or self.streams is None:
            return [self.load(file, precision, device, threads)]
        return self.streams(file, precision, device, threads, count)

    def make(self, source: Source, precision: str, folder: Path) -> Path:
        """Lower and build."""
        return self.build(self.graph(source, precision), folder)

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the `BuildOptions` that it understands."""
        return self.compiler.options if self.compiler else self.takes

    def calibrates(self, precision: str) -> bool:
        """Whether the engine itself calibrates the ranges of a precision."""
        return self.compiler is not None and precision in self.compiler.calibrates

    def own_ranges(self, precision: str) -> bool:
        """Whether ranges are not those of the calibrated network."""
        return precision == DYNAMIC or self.calibrates(precision)


def check_cpu(name: str, device: str) -> None:
    """Find a device that an engine of the CPU alone does not run on.

    Raises:
        EngineError: another than the CPU was asked for.
    """
    if device not in ("auto", "cpu"):
        raise EngineError(f"--device {device}: the {name} engine runs on the CPU; use cpu")


def engine_files(file: Path) -> list[Path]:
    """An engine file and the weights beside it (OpenVINO's .bin) where there are any."""
    beside = file.with_suffix(".bin")
    return [file, beside] if beside.exists() else [file]
