"""A Q/DQ graph whose weights of few bits are stored in INT4, two a byte."""

import numpy as np
import onnx
from onnx import numpy_helper

from yoloq.quant.bit_rows import pack

BITS = 4
OPSET = 21  # the first whose DequantizeLinear reads INT4
IR = 10  # the version of the file's format that goes with it
LOW, HIGH = -8, 7


def to_int4(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which int8 weights that fit into 4 bits are INT4: the same numbers.

    Args:
        model: what a lowering to Q/DQ returned, of opset 19; its other operators mean the same in
            opset 21.

    Raises:
        onnx.checker.ValidationError: the graph is not valid; a defect of this function.
    """
    small = onnx.ModelProto()
    small.CopyFrom(model)
    constants = {tensor.name: tensor for tensor in small.graph.initializer}
    for node in small.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in constants:
            weight, zero_point = constants[node.input[0]], constants[node.input[2]]
            if _fits(weight):
                for tensor in (weight, zero_point):
                    tensor.CopyFrom(_packed(tensor))
    for opset in small.opset_import:
        if opset.domain in ("", "ai.onnx"):
            opset.version = max(opset.version, OPSET)
    small.ir_version = max(small.ir_version, IR)
    onnx.checker.check_model(small, full_check=True)
    return small


def _fits(tensor: onnx.TensorProto) -> bool:
    if tensor.data_type != onnx.TensorProto.INT8:
        return False
    values = numpy_helper.to_array(tensor)
    return bool(values.min() >= LOW and values.max() <= HIGH)


def _packed(tensor: onnx.TensorProto) -> onnx.TensorProto:
    values = numpy_helper.to_array(tensor).astype(np.int8)
    return onnx.TensorProto(
        name=tensor.name,
        data_type=onnx.TensorProto.INT4,
        dims=tensor.dims,
        raw_data=pack(values, BITS).tobytes(),
    )
