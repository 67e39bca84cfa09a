"""The ONNX graph that TensorRT's parser reads, for each precision."""

import onnx

from ..engines.base import METADATA, Source
from ..errors import EngineError
from ..export import export_float
from ..lowering import lower_tensorrt
from ..typed import to_fp16

BATCH = "batch"  # name of the first axis where it is dynamic


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
    options, net = source.options, source.net(precision)
    model = lower_tensorrt(export_float(net, source.info.imgsz, options.batch), net)
    if precision in ("fp16", "int8"):
        model = to_fp16(model)
    if precision == "int8-implicit":
        _take_floats(model)
    if options.max_batch > options.batch:
        _free_batch(model)
    onnx.helper.set_model_props(model, {METADATA: source.info.to_json()})
    return model


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


def _free_batch(model: onnx.ModelProto) -> None:
    """Make the first axis of the input and of the outputs dynamic, in place.

    Raises:
        EngineError: a constant of the network holds the batch it was exported with.
    """
    graph = model.graph
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = BATCH
    del graph.value_info[:]  # shapes of before
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    for value in inferred.graph.output:
        if value.type.tensor_type.shape.dim[0].dim_param != BATCH:
            raise EngineError(
                f"--max-batch: {value.name} of this network has a fixed batch; leave it out"
            )
