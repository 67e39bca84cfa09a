"""ncnn: phones and small boards, from a .param and a .bin that no other tool has to convert.

Both files are written here from the graph that is the network with its fake quantizers: ncnn's int8
convolutions read int8 without zero-points and give floats, so that activations lose nothing.
"""

import tempfile
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from yoloq.base.files import replace_when_whole
from yoloq.engines import PIP
from yoloq.engines.base import GRAPH_PACKAGES, Defaults, Engine, Watch, check_cpu
from yoloq.engines.ncnn.loaded_net import NcnnPredictor, load, weights_of
from yoloq.engines.ncnn.translation import to_ncnn
from yoloq.engines.predictor import Predictor
from yoloq.engines.source import Graph, Source, tensors_of, with_outputs
from yoloq.graph.lower import check_symmetric, lower_minimal
from yoloq.graph.names import convolution_of

RELEASE = "1.0.20261020"
CONVOLUTIONS = ("Convolution", "ConvolutionDepthWise")
INT8 = "8=1"  # how a line says that a convolution reads int8


def precisions(device: str) -> tuple[str, ...]:
    """FP32 and int8.

    Raises:
        EngineError: another device than the CPU was asked for.
    """
    check_cpu("ncnn", device)
    return ("fp32", "int8")


def lower(source: Source, precision: str) -> onnx.ModelProto:
    """The graph that becomes the files.

    Raises:
        PolicyError: an activation has a zero-point, which ncnn does not run; names its layer.
    """
    exported = source.exported(precision)
    if precision != "int8":
        return exported.model
    check_symmetric(source.net(precision), "ncnn", "ncnn")
    return lower_minimal(exported, source.net(precision))


def build(graph: Graph, folder: Path) -> Path:
    """Write a .param and a .bin.

    Raises:
        EngineError: an operator has no translation; names it.
    """
    file = folder / f"ncnn-{graph.precision}.param"
    return write(graph.model, graph.source, file)


def write(model: onnx.ModelProto, source: Source, file: Path) -> Path:
    """Both files of a lowered graph; a .param never stands beside the .bin of another."""
    lines, numbers = to_ncnn(model, source.info.to_json())
    with replace_when_whole(file) as description, replace_when_whole(weights_of(file)) as weights:
        description.write_text(lines, encoding="utf-8")
        weights.write_bytes(numbers)
        file.unlink(missing_ok=True)
    return file


def types(predictor: Predictor, file: Path, layers: Collection[str]) -> dict[str, str]:
    """What each convolution computes in, as its line says."""
    found = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        kind, *rest = line.split()
        if kind in CONVOLUTIONS:
            found[convolution_of(rest[0], layers)] = "int8" if INT8 in rest else "fp32"
    return found


def intermediates(source: Source, precision: str, layers: Sequence[str], threads: int) -> Watch:
    """Outputs of convolutions, which are floats."""
    tensors = tensors_of(source, precision, layers)
    model = with_outputs(lower(source, precision), tensors.values())
    with tempfile.TemporaryDirectory() as folder:
        file = write(model, source, Path(folder) / "watched.param")
        predictor = NcnnPredictor(file, threads, list(tensors.values()), keep=True)

    def watch(image: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        return {k: blob[None] for k, blob in zip(tensors, predictor.run(image), strict=True)}

    return watch


ENGINE = Engine(
    "ncnn",
    precisions,
    build,
    load,
    {"ncnn": ("ncnn",), **GRAPH_PACKAGES},
    lower=lower,
    types=types,
    intermediates=intermediates,
    defaults=partial(Defaults, symmetric=True, zero_points=False),
    install=f"{PIP} ncnn=={RELEASE}",
)
