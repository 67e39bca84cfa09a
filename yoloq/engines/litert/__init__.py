"""LiteRT (TFLite): phones, boards, and CPUs through XNNPACK.

The .tflite file is written here from the same graph that ONNX Runtime gets: integers from one
convolution to the next. Only its interpreter is LiteRT's.
"""

import copy
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from torch import nn

from yoloq.base.files import replace_when_whole
from yoloq.engines import PIP, packages
from yoloq.engines.base import GRAPH_PACKAGES, Defaults, Engine, Watch, check_cpu
from yoloq.engines.litert.conversion import to_tflite
from yoloq.engines.litert.interpreter import LiteRTPredictor, load, streams
from yoloq.engines.predictor import METADATA, Predictor
from yoloq.engines.source import Graph, Source, read_from, with_outputs
from yoloq.graph.integer import lower_integer
from yoloq.graph.names import convolution_of
from yoloq.quant.modules import QuantConv2d, is_on
from yoloq.quant.quantizer import TensorQuantizer

RELEASE = "2.3.0"
FEW, MANY = 8, 16  # bits of activations
# Two float layers take 6% of the time on one core (yolov5n, 640, AVX-512 VNNI) and give a fidelity
# of 0.952 in the place of 0.923: the outputs of the first two convolutions reach 26 and 70, their
# steps are a tenth and a third, and most values lie within few of them. Zero-points cost nothing.
FLOAT_FIRST = 2
INTEGERS = ("INT8", "INT16")
CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")


def precisions(device: str) -> tuple[str, ...]:
    """FP32 and int8: its interpreter has no 16-bit floats on x86.

    Raises:
        EngineError: another device than the CPU was asked for.
    """
    check_cpu("litert", device)
    return ("fp32", "int8")


def lower(source: Source, precision: str) -> onnx.ModelProto:
    """The graph that becomes the file: that of ONNX Runtime, without its own order of nodes."""
    exported = source.exported(precision)
    if precision != "int8":
        return exported.model
    return lower_integer(exported, in_bytes(source.net(precision)), source.quantized.outputs)


def in_bytes(net: nn.Module) -> nn.Module:
    """The network with activations of 16 bits in 8, in the same ranges: `build` gives them back."""
    if bits_of(net) == FEW:
        return net
    copied = copy.deepcopy(net)
    for quantizer in _activations(copied):
        if quantizer.spec.bits == MANY and quantizer.low is not None:
            assert quantizer.high is not None
            quantizer.spec = replace(quantizer.spec, bits=FEW)
            quantizer.set_range(quantizer.low, quantizer.high)
    return copied


def bits_of(net: nn.Module) -> int:
    """Of the integers that a file holds activations in: 16 where any of them has as many."""
    return MANY if any(each.spec.bits == MANY for each in _activations(net)) else FEW


def _activations(net: nn.Module) -> list[TensorQuantizer]:
    sides = [m.input_quantizer for m in net.modules() if isinstance(m, QuantConv2d)]
    return list(dict.fromkeys(side for side in sides if is_on(side)))


def build(graph: Graph, folder: Path) -> Path:
    """Write a .tflite file.

    Raises:
        EngineError: an operator has no translation; names it.
    """
    file = folder / f"litert-{graph.precision}.tflite"
    content = converted(graph.source, graph.precision, graph.model)
    with replace_when_whole(file) as temporary:
        temporary.write_bytes(content)
    return file


def converted(source: Source, precision: str, model: onnx.ModelProto) -> bytes:
    """The content of the file of a lowered graph."""
    bits = bits_of(source.net(precision)) if precision == "int8" else FEW
    return to_tflite(model, {METADATA: source.info.to_json()}, bits)


def types(predictor: Predictor, file: Path, layers: Collection[str]) -> dict[str, str]:
    """What each convolution computes in: LiteRT's operators compute in the types of the file."""
    schema = packages.litert_schema()
    model = schema.ModelT.InitFromPackedBuf(file.read_bytes(), 0)
    [graph] = model.subgraphs
    codes = [getattr(schema.BuiltinOperator, name) for name in CONVOLUTIONS]
    integers = [getattr(schema.TensorType, name) for name in INTEGERS]
    found = {}
    for operator in graph.operators:
        if model.operatorCodes[operator.opcodeIndex].builtinCode in codes:
            read, written = graph.tensors[operator.inputs[0]], graph.tensors[operator.outputs[0]]
            kind = "int8" if read.type in integers else "fp32"
            found[convolution_of(written.name.decode(), layers)] = kind
    return found


def intermediates(source: Source, precision: str, layers: Sequence[str], threads: int) -> Watch:
    """Outputs of convolutions, of those in int8 as they are read from integers."""
    model = lower(source, precision)
    tensors = read_from(model, source, precision, layers)
    content = to_tflite(with_outputs(model, tensors.values()), {METADATA: source.info.to_json()})
    predictor = LiteRTPredictor(content, threads)
    others = len(model.graph.output)

    def watch(image: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        return dict(zip(tensors, predictor.run(image)[others:], strict=True))

    return watch


ENGINE = Engine(
    "litert",
    precisions,
    build,
    load,
    {"litert": ("ai-edge-litert",), **GRAPH_PACKAGES},
    modules=("ai_edge_litert",),
    lower=lower,
    types=types,
    intermediates=intermediates,
    streams=streams,
    defaults=partial(Defaults, float_first=FLOAT_FIRST),
    activation_bits=(FEW, MANY),
    install=f"{PIP} ai-edge-litert=={RELEASE}",
)
