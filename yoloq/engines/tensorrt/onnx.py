"""The ONNX graph that TensorRT's parser reads, for each precision."""

from itertools import zip_longest

import numpy as np
import onnx
from onnx import numpy_helper

from yoloq.base.errors import EngineError
from yoloq.engines.predictor import METADATA
from yoloq.engines.source import Source
from yoloq.graph.fp16 import to_fp16
from yoloq.graph.integer import lower_integer
from yoloq.graph.lower import check_symmetric, lower_tensorrt

BATCH = "batch"  # name of the first axis where it is dynamic
COUNTS = (2, 3)  # images to find it by; not 1, for which the exporter may leave something out


def tensorrt_onnx(source: Source, precision: str) -> onnx.ModelProto:
    """The graph of a precision, with uint8 images in and the raw head in FP32 out.

    FP32 types for `fp32` and `int8-implicit`, FP16 types for `fp16`, Q/DQ with FP16 types for
    `int8`. The images of `int8-implicit` are FP32 too, 0 to 255: TensorRT's documentation says of
    uint8 that it cannot be a quantized value (`DataType.UINT8`), and nothing of calibrating on it.
    The first axis is `source.options.batch`, or dynamic where `max_batch` is more. Nodes have the
    exporter's names, by which `profile.layer_times` finds their layers.

    Raises:
        PolicyError: TensorRT does not run the policy in int8, or a value is out of FP16's range.
        EngineError: the network can not have a dynamic batch.
    """
    options = source.options
    if options.max_batch > options.batch:
        model = _for_any_batch(source, precision)
    else:
        model = _for_a_batch(source, precision)
    if precision in ("fp16", "int8"):
        model = to_fp16(model)
    if precision == "int8-implicit":
        _take_floats(model)
    onnx.helper.set_model_props(model, {METADATA: source.info.to_json()})
    return model


def _for_a_batch(source: Source, precision: str) -> onnx.ModelProto:
    """The graph for just so many images; for a DLA it has Q/DQ on every tensor."""
    exported, net = source.exported(precision, source.options.batch), source.net(precision)
    if precision != "int8" or source.options.dla < 0:
        return lower_tensorrt(exported, net)
    check_symmetric(net)
    return lower_integer(exported, net, source.quantized.outputs, symmetric=True)


def _take_floats(model: onnx.ModelProto) -> None:
    """Let the images come as FP32, without the Cast that made them so, in place."""
    (images,) = model.graph.input
    (cast,) = (node for node in model.graph.node if images.name in node.input)
    assert cast.op_type == "Cast"
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            if name == cast.output[0]:
                node.input[index] = images.name
    model.graph.node.remove(cast)
    images.type.tensor_type.elem_type = onnx.TensorProto.FLOAT


def _for_any_batch(source: Source, precision: str) -> onnx.ModelProto:
    """The graph with a dynamic first axis.

    The exporter writes the number of images into the shapes that attention asks for, as a factor
    of an axis (YOLO12 puts areas of an image there as well). So the graphs for two numbers are
    compared: they may differ in such an axis alone, and it becomes -1, what the others leave.

    Raises:
        EngineError: they differ in something else; names it.
    """
    net, exports = source.net(precision), (source.exported(precision, n) for n in COUNTS)
    model, other = (lower_tensorrt(exported, net) for exported in exports)
    graph = model.graph
    pairs = (
        *zip_longest(graph.node, other.graph.node),
        *zip_longest(graph.initializer, other.graph.initializer),
    )
    for part, twin in pairs:
        if part != twin and not _free_axis(graph, part, twin):
            raise EngineError(
                f"--max-batch: {(part or twin).name} of this network holds the number of images; "
                "leave it out"
            )
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = BATCH
    del graph.value_info[:]  # shapes of before
    return model


def _free_axis(graph: onnx.GraphProto, part: object, twin: object) -> bool:
    """Put -1 where a Reshape's shape differs from its twin in one axis; False where it is none."""
    if not (isinstance(part, onnx.TensorProto) and isinstance(twin, onnx.TensorProto)):
        return False
    readers = [node for node in graph.node if part.name in node.input]
    shape, other = numpy_helper.to_array(part).copy(), numpy_helper.to_array(twin)
    if any(node.op_type != "Reshape" or node.input[1] != part.name for node in readers):
        return False
    if shape.shape != other.shape or -1 in shape or np.count_nonzero(shape != other) != 1:
        return False
    shape[shape != other] = -1
    part.CopyFrom(numpy_helper.from_array(shape, part.name))
    return True
